// The samples as Python wrote them, how values are shown, and how elements are made. Texts only ever become text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const columns = new Map(data.columns.map((column, position) => [column.name, { ...column, position }]));
const headline = data.columns.find((column) => column.headline) ?? data.columns[0] ?? null;
const byKey = new Map(data.samples.map((sample) => [sample.key, sample]));
const groups = grouped(data.samples);

for (const sample of data.samples) {
  sample.set = sample.people.map((number) => data.people[number].id).join("+");
  sample.words = `${text(sample.prompt)}\n${text(sample.generated)}`.toLowerCase();
}

// Samples of equal subjects, prompt and seed together, in the order of the first.
function grouped(samples) {
  const found = new Map();
  for (const sample of samples) {
    const group = found.get(sample.group);
    if (group) group.push(sample);
    else found.set(sample.group, [sample]);
  }
  return found;
}

function text(number) {
  return number === undefined ? "" : data.texts[number];
}

function valueOf(sample, name) {
  const column = columns.get(name);
  return column === undefined ? null : sample.values[column.position];
}

// As the tables have it: the column's decimals, or its significant digits; what is missing is a dash, never 0.
function shown(value, column) {
  if (value === null || value === undefined) return "–";
  if (!column.significant) return value.toFixed(column.digits);
  const before = value ? Math.floor(Math.log10(Math.abs(value))) + 1 : column.digits;
  return value.toFixed(Math.max(column.digits - before, 0));
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A picture by number, or null where there is none; browsers fetch and decode it when it comes near the window.
function picture(number, alt, lazy = true) {
  if (number === undefined) return null;
  const [address, width, height] = data.pictures[number];
  if (address === null) return null;
  return element("img", { src: address, alt, width, height, decoding: "async", loading: lazy ? "lazy" : null });
}

function size(number) {
  const [, width, height] = data.pictures[number];
  return { width, height };
}

function seconds(value) {
  return `${value.toFixed(2)} s`;
}
