"""Webhooks never reach what the operator did not open, however its address is spelled."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.errors import InvalidInput
from storage.records.webhook_guard import MAX_URL_CHARS, Guard, closed, read_opening

CLOSED = Guard()

GOOD = {
    "https://example.com": ("https", "example.com", 443, "/", "example.com"),
    "http://example.com": ("http", "example.com", 80, "/", "example.com"),
    "HTTPS://Example.COM/Hook": ("https", "example.com", 443, "/Hook", "example.com"),
    "https://example.com?a=b": ("https", "example.com", 443, "/?a=b", "example.com"),
    "https://example.com:8443/a/b?c=%20d": (
        "https",
        "example.com",
        8443,
        "/a/b?c=%20d",
        "example.com:8443",
    ),
    "http://example.com:80/": ("http", "example.com", 80, "/", "example.com"),
    "http://example.com:443/": ("http", "example.com", 443, "/", "example.com:443"),
    "https://my_service.example.com/": ("https", "my_service.example.com", 443, "/", None),
    "https://bücher.example/": ("https", "xn--bcher-kva.example", 443, "/", None),
    "https://xn--bcher-kva.example/": ("https", "xn--bcher-kva.example", 443, "/", None),
    "https://8.8.8.8/": ("https", "8.8.8.8", 443, "/", "8.8.8.8"),
    "https://[2606:4700::1111]/x": ("https", "2606:4700::1111", 443, "/x", "[2606:4700::1111]"),
    "http://[2606:4700::1111]:8080/": (
        "http",
        "2606:4700::1111",
        8080,
        "/",
        "[2606:4700::1111]:8080",
    ),
    "https://example.com/a@b:c": ("https", "example.com", 443, "/a@b:c", None),
    "https://example.com/?next=http://127.0.0.1/": (
        "https",
        "example.com",
        443,
        "/?next=http://127.0.0.1/",
        None,
    ),
    "https://1.example.com": ("https", "1.example.com", 443, "/", None),
    "https://0xff.com": ("https", "0xff.com", 443, "/", None),
}

BAD_URLS = [
    # not a URL of ours
    "",
    "example.com/hook",
    "//example.com/hook",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com:80/_GET",
    "javascript:alert(1)",
    "http:/example.com",
    "http:example.com",
    "http:///example.com",
    "http://",
    "https://?a",
    "https:// example.com/",
    " https://example.com/",
    "https://example.com/ ",
    # characters that end up on the wire, or that programs read differently
    "https://example.com/\r\nHost: inside",
    "https://example.com/%0d%0a\n",
    "https://exam\tple.com/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com\\.inside/",
    "https://example.com/\x00",
    "https://example.com/\x7f",
    "https://example.com/\u2028",
    "https://example.com/\u200b",
    "https://example.com/a b",
    "https://example.com/é",
    "https://example.com/<a>",
    'https://example.com/"a"',
    "https://example.com/{a}",
    "https://example.com/%",
    "https://example.com/%2",
    "https://example.com/%zz",
    "https://example.com/[a]",
    "https://example.com/#fragment",
    "https://example.com#@127.0.0.1/",
    # somebody in front of the host
    "https://user@example.com/",
    "https://user:password@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1@example.com/",
    "https://@example.com/",
    "https://example.com%40127.0.0.1/",
    # hosts that are none
    "https://exa%6dple.com/",
    "https://.example.com/",
    "https://example..com/",
    "https://example.com./",
    "https://-example.com/",
    "https://example-.com/",
    "https://exam*ple.com/",
    "https://exam!ple.com/",
    f"https://{'a' * 64}.com/",
    f"https://{'a.' * 127}com/",
    "https://:443/",
    # ports
    "https://example.com:/",
    "https://example.com:0/",
    "https://example.com:00443/",
    "https://example.com:65536/",
    "https://example.com:99999999999999999999/",
    "https://example.com:-443/",
    "https://example.com:+443/",
    "https://example.com:443:443/",
    "https://example.com:http/",
    "https://example.com:４４３/",
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:2375/",
    "https://example.com:5432/",
    "https://example.com:5672/",
    "https://example.com:6379/",
    "https://example.com:9200/",
    "https://example.com:11211/",
    # this machine, by any name
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost:8080/",
    "http://a.localhost/",
    "http://127.0.0.1/",
    "http://127.0.0.1:8080/",
    "http://127.255.255.254/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    # odd spellings of addresses
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0X7F000001/",
    "http://017700000001/",
    "http://0x7f.1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0177.0.0.1/",
    "http://0177.0x0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.01/",
    "http://127.0.0.1./",
    "http://127.0.0.256/",
    "http://127.0.0.1.1/",
    "http://0/",
    "http://0x/",
    "http://1/",
    "http://4294967295/",
    "http://8.8.8.08/",
    "http://134744072/",
    "http://example.com.1/",
    "http://example.0x7f/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://１２７.0.0.1/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "http://ⓔxample.com/",
    "http://faß.de/",
    "http://exam\u00adple.com/",
    "http://example。com/",
    # addresses of version 6 around others
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:8.8.8.8]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::8.8.8.8]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:808:808::]/",
    "http://[2001:0:808:808::80ff:fffe]/",
    "http://[2606:4700::5efe:127.0.0.1]/",
    "http://[2606:4700::200:5efe:10.0.0.1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[v1.fe80::a]/",
    "http://[::1/",
    "http://::1/",
    "http://[]/",
    "http://[127.0.0.1]/",
    "http://[example.com]/",
    "http://[2606:4700::1111]x/",
    "http://[2606:4700::1111]:22/",
    "http://x[2606:4700::1111]/",
    # networks that are not the internet
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://169.254.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fd20:ce::254]/computeMetadata/v1/",
    "http://[::ffff:169.254.169.254]/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[ff02::1]/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "https://example.com/" + "a" * (MAX_URL_CHARS - 19),
]

ADDRESSES = {
    "loopback": ["127.0.0.1", "127.1.2.3", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.1.2.3", "172.20.0.1", "192.168.255.255", "fc00::1", "fd12:3456::1"],
    "link-local": ["169.254.1.1", "fe80::1", "febf::1"],
    "site-local": ["fec0::1", "feff::1"],
    "cloud metadata": [
        "169.254.169.254",
        "fd00:ec2::254",
        "fd20:ce::254",
        "192.0.0.192",
        "100.100.100.200",
        "168.63.129.16",
    ],
    "shared (carrier-grade NAT)": ["100.64.0.1", "100.127.255.255"],
    "benchmark": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "documentation": [
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "2001:db8::1",
        "3fff::1",
    ],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": [
        "192.0.0.170",
        "240.0.0.1",
        "255.255.255.255",
        "2001:1::1",
        "5f00::1",
        "4000::1",
        "1::1",
    ],
    "discard": ["100::1"],
    "IPv4-mapped": ["::ffff:8.8.8.8", "::ffff:127.0.0.1"],
    "IPv4-translated": ["::ffff:0:8.8.8.8"],
    "IPv4-compatible": ["::8.8.8.8", "::10.0.0.1"],
    "NAT64": ["64:ff9b::8.8.8.8", "64:ff9b::127.0.0.1"],
    "local NAT64": ["64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::1"],
    "6to4": ["2002:808:808::1", "2002:a00:1::1"],
    "6to4 relay": ["192.88.99.1"],
    "Teredo": ["2001::1", "2001:0:808:808::1"],
}
OPEN = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"]
OPEN += ["2606:4700::1111", "2a00:1450:4001::1", "2400::1", "198.17.255.255", "223.255.255.255"]


@pytest.mark.parametrize("url", GOOD)
def test_a_plain_url_is_taken_as_it_goes_over_the_wire(url: str):
    scheme, host, port, path, authority = GOOD[url]
    target = CLOSED.target(url)
    assert (target.scheme, target.host, target.port, target.path) == (scheme, host, port, path)
    assert target.authority == (authority or host)


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_leads_astray_is_refused_with_what_to_do(url: str):
    with pytest.raises(InvalidInput) as caught:
        CLOSED.target(url, field="jobs[3].webhook")
    assert caught.value.stable_code == "bad_webhook_url"
    assert caught.value.field == "jobs[3].webhook"
    assert str(caught.value).startswith("jobs[3].webhook ")
    assert "FOREBAY_WEBHOOK_ALLOW" in str(caught.value)


@pytest.mark.parametrize(
    ("why", "text"), [(why, text) for why, texts in ADDRESSES.items() for text in texts]
)
def test_an_address_that_is_not_the_internets_is_refused_by_name(why: str, text: str):
    assert closed(ip_address(text)) == why
    refusal = CLOSED.refusal(CLOSED.target("https://example.com/"), ip_address(text))
    assert refusal is not None and why in refusal
    assert text not in refusal  # a caller learns nothing about names that only resolve inside


@pytest.mark.parametrize("text", OPEN)
def test_an_address_of_the_internet_is_let_through(text: str):
    assert closed(ip_address(text)) is None
    assert CLOSED.refusal(CLOSED.target("https://example.com/"), ip_address(text)) is None


@given(st.integers(0, 2**32 - 1))
def test_what_is_closed_stays_closed_when_it_is_wrapped(bits: int):
    inner = str(ip_address(bits))
    for shape in ("::ffff:{}", "64:ff9b::{}", "::ffff:0:{}", "2606:4700::5efe:{}"):
        wrapped = ip_address(shape.format(inner))
        assert closed(wrapped) or not closed(ip_address(bits))


@given(st.text(max_size=60))
def test_whatever_stands_behind_the_scheme_is_taken_or_refused(text: str):
    try:
        target = CLOSED.target("https://" + text)
    except InvalidInput as error:
        assert error.stable_code == "bad_webhook_url"
    else:
        assert target.host and target.path.startswith("/")
        assert target.host.isascii() and target.path.isascii()


class TestAllowList:
    def allowed(self, allow: str, url: str, *addresses: str) -> bool:
        """Whether the target is taken and every address let through."""
        guard = Guard((allow,))
        try:
            target = guard.target(url)
        except InvalidInput:
            return False
        return all(guard.refusal(target, ip_address(one)) is None for one in addresses)

    @pytest.mark.parametrize(
        ("allow", "url", "address"),
        [
            ("127.0.0.1", "http://127.0.0.1/", "127.0.0.1"),
            ("127.0.0.1:*", "http://127.0.0.1:9123/", "127.0.0.1"),
            ("127.0.0.0/8", "http://localhost/", "127.0.0.1"),
            ("127.0.0.1:9123", "http://localhost:9123/", "127.0.0.1"),
            ("10.0.0.0/8", "https://hook.corp/", "10.1.2.3"),
            ("10.0.0.0/8:9000", "https://hook.corp:9000/", "10.1.2.3"),
            ("hook.corp", "https://hook.corp/", "10.1.2.3"),
            ("Hook.Corp", "https://HOOK.corp:8443/", "10.1.2.3"),
            ("hook.corp:9000", "https://hook.corp:9000/", "10.1.2.3"),
            ("hook.corp:*", "https://hook.corp:22/", "10.1.2.3"),
            ("localhost", "http://localhost/", "127.0.0.1"),
            ("::1", "http://[::1]/", "::1"),
            ("[::1]:9000", "http://[::1]:9000/", "::1"),
            ("[::1]", "http://[::1]/", "::1"),
            ("fd00::/8", "https://hook.corp/", "fd00::5"),
            ("[fd00::/8]:*", "https://hook.corp:5000/", "fd00::5"),
            ("64:ff9b::/96", "https://example.com/", "64:ff9b::8.8.8.8"),
            ("example.com:2222", "https://example.com:2222/", "8.8.8.8"),
        ],
    )
    def test_it_opens_what_it_names(self, allow: str, url: str, address: str):
        assert not self.allowed("other.corp", url, address)
        assert self.allowed(allow, url, address)

    @pytest.mark.parametrize(
        ("allow", "url", "address"),
        [
            ("127.0.0.1", "http://127.0.0.1:9123/", "127.0.0.1"),
            ("127.0.0.1:9123", "http://127.0.0.1/", "127.0.0.1"),
            ("127.0.0.1", "http://127.0.0.2/", "127.0.0.2"),
            ("127.0.0.1:9123", "http://hook.corp:9123/", "127.0.0.2"),
            ("10.0.0.0/8:9000", "https://hook.corp:9000/", "8.8.8.8"),  # opens no port elsewhere
            ("10.0.0.0/8:9000", "https://hook.corp/", "10.0.0.1"),
            ("10.0.0.0/8", "https://hook.corp/", "::ffff:10.0.0.1"),
            ("10.0.0.0/8", "https://hook.corp/", "64:ff9b::10.0.0.1"),
            ("64:ff9b::/96", "https://example.com/", "64:ff9b::10.0.0.1"),
            ("64:ff9b::/96", "https://example.com/", "64:ff9b::169.254.169.254"),
            ("::/0", "https://example.com/", "::ffff:127.0.0.1"),
            ("hook.corp", "https://sub.hook.corp/", "10.0.0.1"),
            ("hook.corp", "https://hook.corp.evil.example/", "10.0.0.1"),
            ("hook.corp", "https://hook.corp:9000/", "10.0.0.1"),
            ("hook.corp:9000", "https://hook.corp/", "10.0.0.1"),
            ("hook.corp:9000", "https://other.corp:9000/", "8.8.8.8"),
        ],
    )
    def test_it_opens_nothing_beside(self, allow: str, url: str, address: str):
        assert not self.allowed(allow, url, address)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "https://hook.corp",
            "hook.corp/path",
            "10.0.0.1/8",  # bits behind the mask: which network was meant?
            "10.0.0.0/33",
            "10.0.0",
            "hook.corp:",
            "hook.corp:0",
            "hook.corp:65536",
            "hook.corp:http",
            "*",
            "*.corp",
            "*:9000",
            "[::1",
            "[::1]9000",
            "[::1]:",
            "user@hook.corp",
            "0x7f000001",
        ],
    )
    def test_an_entry_that_names_nothing_is_refused(self, text: str):
        with pytest.raises(InvalidInput) as caught:
            read_opening(text)
        assert caught.value.stable_code == "bad_webhook_allow"
        with pytest.raises(InvalidInput):
            Guard((text,))
