"use strict";
const make = (tag, text, ...children) => {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
};
const resolve = (api, schema) => {
  if (!schema || !schema.$ref) return schema || {};
  return schema.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
};
const limits = (schema) => {
  const parts = [];
  if (schema.enum) parts.push(schema.enum.join(" | "));
  if (schema.minimum !== undefined) parts.push(`${schema.minimum} to ${schema.maximum ?? "any"}`);
  if (schema.maxLength !== undefined) parts.push(`at most ${schema.maxLength} characters`);
  if (schema.maxItems !== undefined) parts.push(`at most ${schema.maxItems}`);
  if (schema.default !== undefined) parts.push(`default ${JSON.stringify(schema.default)}`);
  if (schema.description) parts.push(schema.description);
  return parts.join("; ");
};
const typeOf = (schema) => {
  if (schema.title && schema.anyOf) return schema.anyOf.map((form) => form.title || typeOf(form)).join(" | ");
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  const name = [].concat(schema.type || "any").join(" | ");
  return schema.items ? `list of ${typeOf(schema.items)}` : name;
};
const rowsOf = (schema) =>
  Object.entries(schema.properties || {}).map(([name, inner]) => [
    name, typeOf(inner) + ((schema.required || []).includes(name) ? "" : " (optional)"), limits(inner),
  ]);
const table = (head, rows) => {
  const body = make("tbody");
  for (const row of rows) {
    const [first, ...rest] = row;
    body.append(make("tr", "", make("td", "", make("code", first)), ...rest.map((t) => make("td", t))));
  }
  return make("table", "", make("thead", "", make("tr", "", ...head.map((t) => make("th", t)))), body);
};
const contentOf = (api, content) => {
  const found = [];
  for (const [type, { schema = {} }] of Object.entries(content || {})) {
    const whole = resolve(api, schema);
    found.push(make("p", `${type}: ${typeOf(schema)}. ${whole.description || ""}`));
    for (const form of whole.anyOf || [whole]) {
      const item = form.properties && form.properties.jobs && form.properties.jobs.items;
      const rows = rowsOf(form).concat(item ? rowsOf(resolve(api, item)).map(([n, ...r]) => [`jobs[].${n}`, ...r]) : []);
      for (const [name, inner] of Object.entries(form.properties || {}))
        if (inner.properties) rows.push(...rowsOf(inner).map(([n, ...r]) => [`${name}.${n}`, ...r]));
      if (whole.anyOf) found.push(make("h5", form.title || ""));
      if (rows.length) found.push(table(["field", "type", "meaning"], rows));
    }
  }
  return found;
};
const operation = (api, path, method, op) => {
  const box = make("details");
  box.append(make("summary", "", make("b", method.toUpperCase()), make("code", path), make("span", op.summary)));
  box.append(make("p", op.description));
  const parameters = (op.parameters || []).map((p) => [p.name, `${p.in}, ${typeOf(p.schema)}`, p.description || limits(p.schema)]);
  if (parameters.length) box.append(make("h4", "Parameters"), table(["name", "where", "meaning"], parameters));
  if (op.requestBody) box.append(make("h4", "Body"), ...contentOf(api, op.requestBody.content));
  box.append(make("h4", "Answers"));
  for (const [status, said] of Object.entries(op.responses)) {
    box.append(make("p", `${status}: ${said.description}`));
    if (status !== "default" && Number(status) < 300) box.append(...contentOf(api, said.content));
  }
  return box;
};
const drawCodes = (main, id, title, words) => {
  const rows = words.split("\n").map((line) => /^- `(\w+)`: (.*)$/.exec(line)).filter(Boolean);
  const heading = make("h2", title.replaceAll("`", ""));
  const section = make("section", "", heading, table(["code", "meaning"], rows.map((r) => [r[1], r[2]])));
  section.id = id;
  main.append(section);
};
const draw = (api) => {
  const [about, ...lists] = api.info.description.split(/\n(Codes [^\n]*):\n/);
  document.getElementById("about").textContent = about.replaceAll("`", "");
  const main = document.getElementById("main");
  const sections = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, op] of Object.entries(methods)) {
      const tag = (op.tags || ["other"])[0];
      if (!sections.has(tag)) {
        const section = make("section", "", make("h2", tag));
        section.id = tag;
        sections.set(tag, section);
        const link = make("a", tag);
        link.href = `#${tag}`;
        document.getElementById("contents").append(link);
        main.append(section);
      }
      sections.get(tag).append(operation(api, path, method, op));
    }
  }
  const link = make("a", "codes");
  link.href = "#codes";
  document.getElementById("contents").append(link);
  for (let i = 0; i < lists.length; i += 2) drawCodes(main, i ? `codes-${i}` : "codes", lists[i], lists[i + 1]);
  document.body.dataset.ready = "yes";
};
fetch("openapi.json").then((answer) => answer.json()).then(draw).catch((error) => {
  document.getElementById("about").textContent = `The description cannot be read: ${error}`;
});
