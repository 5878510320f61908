// One sample in full: its image with the faces found, the references, the other methods on the same prompt and seed,
// every value, and how to make it again. The address #sample=ID leads straight to it.

const viewer = document.getElementById("viewer");
let current = null;

const part = (title, ...children) => element("section", {}, element("h3", {}, title), ...children);
const fact = (name, ...content) => element("div", {}, element("dt", {}, name), element("dd", {}, ...content));

// Boxes are drawn in the image's own pixels; the label says who a face was counted for, and how alike it is.
function overlay(sample) {
  const { width, height } = size(sample.picture);
  const art = drawn("svg", { class: "boxes", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const letters = Math.max(width, height) / 26;
  sample.faces.forEach((face, number) => {
    const [left, top, right, bottom] = face.box;
    const who = sample.people.findIndex((person) => data.people[person].id === face.matched);
    const kind = who < 0 ? "box unmatched" : `box person-${who % 4}`;
    const similar = who < 0 ? null : face.similarities[who];
    const label = who < 0 ? `face ${number + 1}` : `${face.matched}${similar === null ? "" : ` ${similar.toFixed(3)}`}`;
    const above = top > letters * 1.4;
    const late = left > width * 0.6;
    const box = { x: left, y: top, width: right - left, height: bottom - top };
    art.append(
      drawn("rect", { class: "halo", ...box }),
      drawn("rect", { class: kind, ...box }),
      drawn(
        "text",
        {
          class: kind,
          x: late ? right : left,
          y: above ? top - letters * 0.35 : top + letters * 1.05,
          "font-size": letters,
          "text-anchor": late ? "end" : "start",
        },
        label,
      ),
    );
  });
  return art;
}

function pictureOf(sample) {
  const method = data.methods[sample.method];
  const image = picture(sample.picture, `${method}: ${text(sample.prompt)}`, false);
  if (image === null) {
    const why = { ok: "The image is missing.", error: "This sample failed.", missing: "This sample was not reached." };
    return element("div", { class: "stage" }, element("p", { class: "empty" }, why[sample.status]));
  }
  const stage = element("div", { class: "stage" }, image);
  if (!sample.faces?.length) return stage;
  stage.append(overlay(sample));
  const box = element("input", { type: "checkbox", checked: true });
  box.addEventListener("change", () => stage.classList.toggle("bare", !box.checked));
  return element("div", {}, stage, element("label", { class: "switch" }, box, " boxes of the faces found"));
}

function references(sample) {
  const shownPeople = sample.people.map((number, place) => {
    const who = data.people[number];
    const image = picture(who.picture, `reference photograph of ${who.id}`);
    const frame = image ?? element("span", { class: "empty" }, "no photograph");
    return element(
      "figure",
      { class: `person person-${place % 4}` },
      frame,
      element("figcaption", {}, element("bdi", {}, `${who.id}, ${who.noun}`)),
    );
  });
  return part(sample.people.length === 1 ? "Reference" : "References", element("div", { class: "people" }, ...shownPeople));
}

function faces(sample) {
  if (sample.faces === undefined) return null;
  if (!sample.faces.length) return part("Faces", element("p", {}, "No face was detected."));
  const head = element("tr", {}, element("th", { scope: "col" }, "face"), element("th", { scope: "col" }, "score"));
  for (const number of sample.people) head.append(element("th", { scope: "col" }, `like ${data.people[number].id}`));
  head.append(element("th", { scope: "col" }, "box"));
  const lines = sample.faces.map((face, number) => {
    const line = element("tr", {}, element("th", { scope: "row" }, `${number + 1}`));
    line.append(element("td", {}, face.score === null ? "–" : face.score.toFixed(2)));
    sample.people.forEach((person, place) => {
      const matched = data.people[person].id === face.matched;
      const value = face.similarities[place];
      const words = value === null ? "–" : value.toFixed(3);
      const cell = element("td", { class: matched ? "best" : null }, words);
      if (matched) cell.append(element("span", { class: "unseen" }, " matched"));
      line.append(cell);
    });
    line.append(element("td", { class: "box" }, face.box.map((end) => end.toFixed(0)).join(", ")));
    return line;
  });
  const table = element("table", { class: "faces" }, element("thead", {}, head), element("tbody", {}, ...lines));
  return part(
    "Faces",
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Detected faces" }, table),
    element("p", { class: "legend" }, "Cosines with each reference; bold: the face counted for that subject."),
  );
}

function siblings(sample) {
  const others = groups.get(sample.group);
  if (others.length < 2) return null;
  const column = captioned();
  const tiles = others.map((other) => {
    const made = tile(other, column);
    if (other === sample) made.setAttribute("aria-current", "true");
    return made;
  });
  return part(
    "The same prompt and seed",
    element("div", { class: "strip", tabindex: "0", role: "group", "aria-label": "Other methods" }, ...tiles),
  );
}

function values(sample) {
  const unscored = new Map((sample.unscored ?? []).map(([metric, message, trace]) => [metric, { message, trace }]));
  const facts = data.columns.map((column, position) => {
    const made = fact(column.title, shown(sample.values[position], column));
    made.title = column.description;
    return made;
  });
  const failed = [...unscored].map(([metric, failure]) =>
    element("details", { class: "trace" }, element("summary", {}, `${metric}: ${text(failure.message)}`), trace(failure.trace)),
  );
  return part("Measured", element("dl", { class: "values" }, ...facts), ...failed);
}

const trace = (number) => element("pre", { tabindex: "0" }, text(number));

function failure(sample) {
  if (sample.failure === undefined) return null;
  const [message, traceback] = sample.failure;
  return part(
    "Failed",
    element("p", { class: "reason" }, element("bdi", {}, text(message))),
    element("details", { class: "trace", open: true }, element("summary", {}, "Traceback"), trace(traceback)),
  );
}

function about(sample) {
  const prompt = (number) => (number === undefined ? "not known: it failed before" : element("bdi", {}, text(number)));
  const gib = sample.memory === undefined ? null : `${(sample.memory / 2 ** 30).toFixed(2)} GiB`;
  const time =
    sample.seconds === undefined ? null : `${seconds(sample.seconds)}, one of ${sample.batch} generated together`;
  const same = sample.same === undefined ? null : `the image of ${sample.same}: this method sees no photograph`;
  const facts = [
    fact("prompt as generated", prompt(sample.generated)),
    fact("prompt as scored", prompt(sample.prompt)),
    fact("category", text(sample.category)),
    fact("seed", `${sample.seed} (image ${sample.index + 1} of this prompt)`),
    ["time", time],
    ["peak memory", gib],
    ["shares", same],
    ["finished", sample.finished],
    ["file", sample.file && element("code", {}, sample.file)],
    fact("id", element("code", {}, sample.id)),
  ].map((entry) => (Array.isArray(entry) ? entry[1] && fact(...entry) : entry));
  return part("About", element("dl", { class: "values wide" }, ...facts.filter(Boolean)));
}

function again(sample) {
  const commands = [["this link", `#sample=${encodeURIComponent(sample.key)}`, location.href.split("#")[0]]];
  if (sample.command !== undefined) commands.unshift(["all of this method's samples", data.commands[sample.command], ""]);
  const lines = commands.map(([what, words, before]) => {
    const button = element("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", () => copy(button, before + words));
    return [
      element("p", { class: "legend" }, what),
      element("div", { class: "command" }, element("pre", { tabindex: "0" }, element("code", {}, words)), button),
    ];
  });
  return part("Again", ...lines.flat());
}

function show(sample) {
  current = sample;
  document.getElementById("viewer-title").replaceChildren(
    element("bdi", {}, data.methods[sample.method]),
    element("small", {}, ` ${sample.set}`),
  );
  viewer.querySelector(".asked").replaceChildren(element("bdi", {}, text(sample.prompt)));
  viewer.querySelector(".body").replaceChildren(
    ...[
      element("div", { class: "look" }, pictureOf(sample), references(sample)),
      element(
        "div",
        { class: "read" },
        ...[failure(sample), siblings(sample), values(sample), faces(sample)].filter(Boolean),
      ),
      element("div", { class: "rest" }, about(sample), again(sample)),
    ],
  );
  const place = chosen.indexOf(sample);
  viewer.querySelector(".previous").disabled = place <= 0;
  viewer.querySelector(".next").disabled = place < 0 || place === chosen.length - 1;
  if (!viewer.open) viewer.showModal();
  viewer.scrollTop = 0;
}

function step(by) {
  const place = chosen.indexOf(current);
  const next = chosen[place + by];
  if (place < 0 || next === undefined) return;
  history.replaceState(null, "", `#sample=${encodeURIComponent(next.key)}`);
  show(next);
}

// What the address asks for: a sample, a choice, or a section of the page.
function follow() {
  const fields = new URLSearchParams(location.hash.slice(1));
  if (readAddress(fields) || !rows.length) {
    choose();
    render();
  }
  const asked = fields.get("sample");
  const sample = byKey.get(asked) ?? data.samples.find((other) => other.id === asked);
  if (sample !== undefined) show(sample);
  else if (viewer.open) viewer.close();
}

viewer.querySelector(".previous").addEventListener("click", () => step(-1));
viewer.querySelector(".next").addEventListener("click", () => step(1));
viewer.querySelector(".close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) viewer.close();
});
viewer.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest(".strip, .scroll, pre")) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else return;
  event.preventDefault();
});
viewer.addEventListener("close", () => {
  const sample = current;
  current = null;
  if (new URLSearchParams(location.hash.slice(1)).has("sample")) keepAddress();
  if (sample !== null) showTile(sample);
});
window.addEventListener("hashchange", follow);
follow();
