"""The SDK and the real service: versions after they were pushed."""

from __future__ import annotations

import pytest

from producers.client import Forebay
from producers.client.errors import Conflict
from tests.integration.api.test_files_and_models import keras


@pytest.fixture
def client(house):
    with Forebay(house.url) as client:
        yield client


def test_a_version_goes_through_its_life(house, client, tmp_path):
    file = tmp_path / "m.keras"
    file.write_bytes(keras())
    version = client.models.push("digits", file, licence="MIT", notes="of June")
    assert (version.licence, version.notes, version.document["uploader"]) == (
        *("MIT", "of June", "loopback"),
    )
    with house.database.begin() as tx:
        tx.models.mark_ready(version.document["id"], {})
    assert version.edit(notes="of July").notes == "of July"
    assert version.deprecate().state == "deprecated"
    assert version.restore().state == "ready"
    client.models.alias("digits", "prod", 1)
    assert client.models.get("digits@prod").ref == client.models.get("digits").ref == "digits:1"
    card = version.card()
    assert (card["notes"], card["aliases"]) == ("of July", ["prod"])
    assert version.card_markdown().startswith("# digits:1\n")
    with pytest.raises(Conflict) as refused:
        client.models.delete("digits", 1)
    assert refused.value.code == "version_in_use" and "digits@prod" in str(refused.value)
    file.write_bytes(keras(5))
    other = client.models.push("digits", file)
    client.models.alias("digits", "prod", other.version)
    gone = client.models.delete("digits", 1)
    assert (gone["state"], gone["made_from_it"]) == ("deleted", [])
    assert version.refresh().state == "deleted"
    assert client.models.get("digits").version == 2
