// Tables that sort by a click on a title: best first, worst first, as planned. Anchors stay below. Copying. Printing.

function sortable(table) {
  const body = table.tBodies[0];
  const planned = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, position) => {
    head.querySelector("button").addEventListener("click", () => {
      const first = head.dataset.better === "higher" ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort");
      const next = now === null ? first : now === first ? second : null;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== null) head.setAttribute("aria-sort", next);
      body.append(...(next === null ? planned : sorted(planned, position, next === "ascending" ? 1 : -1)));
    });
  });
}

// By number where there are numbers, those that are missing last in both directions; by text elsewhere.
function sorted(rows, position, direction) {
  const value = (row) => row.cells[position].dataset.value;
  if (!rows.some((row) => value(row) !== undefined)) {
    const words = (row) => row.cells[position].textContent.trim();
    return [...rows].sort((a, b) => direction * words(a).localeCompare(words(b), undefined, { numeric: true }));
  }
  return [...rows].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === undefined || right === undefined) return (left === undefined) - (right === undefined);
    return direction * (Number(left) - Number(right));
  });
}

async function copy(button, words) {
  try {
    await navigator.clipboard.writeText(words);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll(".command .copy").forEach((button) => {
  button.addEventListener("click", () => copy(button, button.parentElement.querySelector("code").textContent));
});

let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("main details:not([open])")];
  folded.forEach((details) => (details.open = true));
});
window.addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));
