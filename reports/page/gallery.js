// The gallery: samples chosen, ordered and shown a page at a time, so that the document stays small however many there
// are. What is chosen stands in the address: #method=...&sort=identity:worst.

const PER_PAGE = { prompts: 12, single: 60 };
const form = document.querySelector(".filters");
const gallery = document.getElementById("gallery");
const pager = document.querySelector(".pager");
const everything = { view: "prompts", q: "", subject: "", category: "", status: "", sort: "", methods: [], page: 0 };
let state = { ...everything };
let chosen = []; // samples, in the order of the arrow keys
let rows = []; // lists of samples: one prompt and seed each, or one sample each

function readForm() {
  const fields = new FormData(form);
  const take = (name) => fields.get(name) ?? "";
  state = {
    view: take("view"),
    q: take("q"),
    subject: take("subject"),
    category: take("category"),
    status: take("status"),
    sort: take("sort"),
    methods: fields.getAll("method"),
    page: 0,
  };
}

function fillForm() {
  for (const name of ["q", "subject", "category", "status", "sort"]) {
    const field = form.elements.namedItem(name);
    field.value = state[name];
    state[name] = field.value; // an address may ask for what is not there
  }
  for (const box of form.querySelectorAll("[name=method]")) box.checked = state.methods.includes(box.value);
  state.methods = [...form.querySelectorAll("[name=method]:checked")].map((box) => box.value);
  for (const box of form.querySelectorAll("[name=view]")) box.checked = box.value === state.view;
}

function fits(sample, words, methods) {
  if (methods.size && !methods.has(sample.method)) return false;
  if (state.category && text(sample.category) !== state.category) return false;
  if (state.status && sample.status !== state.status) return false;
  if (state.subject && sample.set !== state.subject) {
    const among = !state.subject.includes("+") && sample.people.some((n) => data.people[n].id === state.subject);
    if (!among) return false;
  }
  return words.every((word) => sample.words.includes(word) || (word.length > 3 && sample.id.startsWith(word)));
}

// Ascending or descending by the first value that is there; rows without any come last.
function order(list) {
  const [name, end] = state.sort.split(":");
  const column = columns.get(name);
  if (column === undefined) return list;
  const lowest = end === "lowest" || (end === "worst" ? column.higher_is_better : !column.higher_is_better);
  const values = new Map(
    list.map((row) => {
      const there = row.map((sample) => sample.values[column.position]).filter((value) => value !== null);
      return [row, there.length ? (lowest ? Math.min(...there) : Math.max(...there)) : null];
    }),
  );
  return [...list].sort((a, b) => {
    const [left, right] = [values.get(a), values.get(b)];
    if (left === null || right === null) return (left === null) - (right === null);
    return lowest ? left - right : right - left;
  });
}

function choose() {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const methods = new Set(state.methods.map((name) => data.methods.indexOf(name)));
  const found = data.samples.filter((sample) => fits(sample, words, methods));
  if (state.view === "single") {
    rows = order(found.map((sample) => [sample]));
  } else {
    rows = order([...grouped(found).values()]);
  }
  chosen = rows.flat();
}

function captioned() {
  return columns.get(state.sort.split(":")[0]) ?? (headline && columns.get(headline.name));
}

function tile(sample, column, best) {
  const method = data.methods[sample.method];
  const value = column && sample.status === "ok" ? sample.values[column.position] : null;
  const words = { ok: null, error: "failed", missing: "not reached" }[sample.status];
  const image = picture(sample.picture, `${method}: ${text(sample.prompt)}`);
  const place = image ?? element("span", { class: "empty" }, words ?? "no image");
  const number = words ? element("span", { class: "trouble" }, words) : null;
  const caption = column && !words ? `${column.title} ${shown(value, column)}` : null;
  return element(
    "a",
    { class: `tile ${sample.status}`, href: `#sample=${encodeURIComponent(sample.key)}`, "data-key": sample.key },
    element("span", { class: "frame" }, place),
    element("span", { class: "label", title: method }, element("bdi", {}, method)),
    number ?? element("span", { class: best ? "value best" : "value", title: caption }, shown(value, column ?? {})),
    state.view === "single" ? element("span", { class: "words" }, element("bdi", {}, text(sample.prompt))) : null,
  );
}

function person(number) {
  const who = data.people[number];
  const image = picture(who.picture, `reference photograph of ${who.id}`);
  return element(
    "span",
    { class: "tile reference" },
    element("span", { class: "frame" }, image ?? element("span", { class: "empty" }, "no photograph")),
    element("span", { class: "label" }, element("bdi", {}, `${who.id}, ${who.noun}`)),
    element("span", { class: "value" }, "reference"),
  );
}

function promptRow(samples, column) {
  const [first] = samples;
  const values = samples.map((sample) => (column ? sample.values[column.position] : null));
  const there = values.filter((value) => value !== null);
  const wanted = column?.higher_is_better === false ? Math.min(...there) : Math.max(...there);
  const marks = there.length > 1 && column?.higher_is_better !== null;
  return element(
    "article",
    { class: "row" },
    element(
      "h3",
      {},
      element("bdi", {}, text(first.prompt)),
      element("small", {}, `${first.set} · ${text(first.category)} · seed ${first.seed}`),
    ),
    element(
      "div",
      { class: "strip", tabindex: "0", role: "group", "aria-label": text(first.prompt) },
      ...first.people.map(person),
      ...samples.map((sample, place) => tile(sample, column, marks && values[place] === wanted)),
    ),
  );
}

function render() {
  const column = captioned();
  const per = PER_PAGE[state.view];
  const pages = Math.max(1, Math.ceil(rows.length / per));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const start = state.page * per;
  const visible = rows.slice(start, start + per);
  gallery.className = `gallery ${state.view}${data.pictures.some(([address]) => address !== null) ? "" : " imageless"}`;
  gallery.replaceChildren(
    ...(state.view === "single" ? visible.map(([sample]) => tile(sample, column)) : visible.map((row) => promptRow(row, column))),
  );
  if (!rows.length) gallery.append(element("p", { class: "notice" }, "No sample matches; clear the filters to see all."));
  const total = data.samples.length;
  const amount = chosen.length === total ? `${total}` : `${chosen.length} of ${total}`;
  const prompts = state.view === "prompts" ? ` in ${rows.length} ${rows.length === 1 ? "row" : "rows"}` : "";
  const what = column ? `; below each image: ${column.title}` : "";
  form.querySelector(".count").textContent = `${amount} samples${prompts}${what}`;
  pager.hidden = pages === 1;
  pager.querySelector(".place").textContent = `${start + 1}–${start + visible.length} of ${rows.length}`;
  pager.querySelector(".back").disabled = state.page === 0;
  pager.querySelector(".forth").disabled = state.page === pages - 1;
}

function address() {
  const fields = new URLSearchParams();
  for (const name of ["view", "q", "subject", "category", "status", "sort"]) {
    if (state[name] !== everything[name]) fields.set(name, state[name]);
  }
  for (const method of state.methods) fields.append("method", method);
  if (state.page) fields.set("page", state.page + 1);
  return fields.toString();
}

function keepAddress() {
  const fields = address();
  history.replaceState(null, "", location.href.split("#")[0] + (fields && `#${fields}`));
}

// False where the address names a section or a sample alone: what is chosen then stays as it is.
function readAddress(fields) {
  if (!["view", "q", "subject", "category", "status", "sort", "method", "page"].some((name) => fields.has(name))) {
    return false;
  }
  state = { ...everything, methods: fields.getAll("method"), page: (Number(fields.get("page")) || 1) - 1 };
  for (const name of ["view", "q", "subject", "category", "status", "sort"]) {
    if (fields.has(name)) state[name] = fields.get(name);
  }
  if (!(state.view in PER_PAGE)) state.view = everything.view;
  fillForm();
  return true;
}

function turn(step) {
  state.page += step;
  render();
  keepAddress();
  document.getElementById("samples").scrollIntoView();
}

// The page of the gallery that holds a sample, with the focus on it.
function showTile(sample) {
  const place = rows.findIndex((row) => row.includes(sample));
  if (place < 0) return;
  const page = Math.floor(place / PER_PAGE[state.view]);
  if (page !== state.page) {
    state.page = page;
    render();
  }
  gallery.querySelector(`[data-key="${CSS.escape(sample.key)}"]`)?.focus();
}

function changed() {
  readForm();
  choose();
  render();
  keepAddress();
}

form.addEventListener("input", changed);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", (event) => {
  event.preventDefault();
  state = { ...everything, view: state.view };
  fillForm();
  changed();
});
pager.querySelector(".back").addEventListener("click", () => turn(-1));
pager.querySelector(".forth").addEventListener("click", () => turn(1));
