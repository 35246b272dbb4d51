// What a page does when it is used. It fetches nothing and stores nothing; without it, everything but the images of the
// cells and the moving threshold is there. Texts from the data enter as text, never as markup.
"use strict";

const data = JSON.parse(document.getElementById("page-data").textContent);
const byId = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// What scrolls is a stop for the keyboard, or only a mouse could reach the rest; a table that fits needs none.
function stopAtScrolling() {
  for (const box of document.querySelectorAll(".scroll, .thumbs")) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  }
}
stopAtScrolling();
window.addEventListener("resize", stopAtScrolling);

// -- confusion matrix: a cell opens its images ------------------------------------------------------------------------

function openCell(button) {
  const panel = byId("cell-images");
  const wasOpen = button.getAttribute("aria-expanded") === "true";
  for (const other of document.querySelectorAll("[data-cell]")) other.setAttribute("aria-expanded", "false");
  panel.replaceChildren();
  panel.classList.toggle("hidden", wasOpen);
  if (wasOpen) return;
  button.setAttribute("aria-expanded", "true");
  const cell = data.cells[button.dataset.cell];
  const close = make("button", { type: "button", class: "close" }, "Close");
  close.addEventListener("click", () => {
    openCell(button);
    button.focus();
  });
  panel.append(make("div", { class: "cell-head" }, make("h3", {}, cell.title), close), make("p", { class: "hint" }, describe(cell)));
  const list = make("ul", { class: cell.images.some((image) => image[3] >= 0) ? "thumbs" : "names" });
  for (const image of cell.images) list.append(thumb(image, cell));
  list.setAttribute("aria-label", cell.title);
  panel.append(list);
  panel.setAttribute("aria-label", cell.title);
  stopAtScrolling();
  panel.focus({ preventScroll: true });
  panel.scrollIntoView({ block: "nearest" });
}

function describe(cell) {
  const listed = cell.images.length;
  const count = cell.count.toLocaleString("en");
  const which = listed < cell.count
    ? `${listed} of ${count} images, from the most confident prediction to the least; the other ${(cell.count - listed).toLocaleString("en")} are left out.`
    : `${count} ${listed === 1 ? "image" : "images"}, the most confident prediction first.`;
  const blind = cell.images.filter((image) => image[3] < 0).length;
  return blind > 0 && blind < listed ? `${which} ${blind} without a picture: it cannot be read, or the page would be too large.` : which;
}

function thumb([name, said, truth, picture], cell) {
  const item = make("li");
  if (picture >= 0) {
    item.append(make("img", { src: data.pictures[picture], alt: "" }));
  }
  const chances = cell.title.startsWith("True") && said !== truth
    ? `said ${said.toFixed(2)}, true ${truth.toFixed(2)}`
    : `${said.toFixed(2)}`;
  item.append(make("span", { class: "name" }, name), make("span", { class: "hint" }, chances));
  return item;
}

for (const button of document.querySelectorAll("[data-cell]")) {
  button.addEventListener("click", () => openCell(button));
}

// -- heat maps fade over their photographs ----------------------------------------------------------------------------

function fade(slider) {
  const heat = slider.closest(".look").querySelector(".heat");
  heat.style.opacity = slider.value / 100;
}

for (const slider of document.querySelectorAll("[data-heat]")) {
  slider.addEventListener("input", () => fade(slider));
}
byId("heat-all")?.addEventListener("input", (event) => {
  for (const slider of document.querySelectorAll("[data-heat]")) {
    slider.value = event.target.value;
    fade(slider);
  }
});

// -- the threshold ----------------------------------------------------------------------------------------------------

// Four decimals as Python writes them. What lies exactly between two of them, Python rounds to the even one, toFixed up;
// only odd multiples of 1/32 do, as no other number of that kind has a finite binary form.
function format(value) {
  if (!Number.isFinite(value)) return "n/a";
  if (Math.abs(value * 32) % 2 !== 1) return value.toFixed(4);
  const below = Math.floor(value * 10000);
  return ((below % 2 === 0 ? below : below + 1) / 10000).toFixed(4);
}

// An image is positive where its score >= threshold. The same sums, in the same order, as retino eval: prevalence p,
// sensitivity s, specificity c; referral rate r = p s + (1 - p)(1 - c); PPV = p s / r; NPV = (1 - p) c / (1 - r).
function count(threshold) {
  const cells = { true_positives: 0, false_negatives: 0, true_negatives: 0, false_positives: 0 };
  data.threshold.scores.forEach((score, place) => {
    const called = score >= threshold;
    if (data.threshold.positive[place]) cells[called ? "true_positives" : "false_negatives"] += 1;
    else cells[called ? "false_positives" : "true_negatives"] += 1;
  });
  return cells;
}

function rate(cells, prevalence) {
  const sensitivity = cells.true_positives / (cells.true_positives + cells.false_negatives);
  const specificity = cells.true_negatives / (cells.true_negatives + cells.false_positives);
  const found = prevalence > 0 ? prevalence * sensitivity : 0;
  const cleared = prevalence < 1 ? (1 - prevalence) * specificity : 0;
  const alarms = 1 - prevalence - cleared;
  const missed = prevalence - found;
  return {
    sensitivity,
    specificity,
    ppv: found / (found + alarms),
    npv: cleared / (cleared + missed),
    referral_rate: found + alarms,
  };
}

function move(key, x, y) {
  const mark = document.querySelector(`[data-mark="${key}"]`);
  if (!mark) return;
  const svg = mark.closest("svg");
  const [left, bottom, right, top] = svg.dataset.plot.split(" ").map(Number);
  const [lowX, lowY, highX, highY] = svg.dataset.range.split(" ").map(Number);
  mark.setAttribute("cx", left + ((x - lowX) / (highX - lowX)) * (right - left));
  mark.setAttribute("cy", bottom + ((y - lowY) / (highY - lowY)) * (top - bottom));
}

function show(threshold, prevalence) {
  const cells = count(threshold);
  const rates = rate(cells, prevalence);
  for (const [name, value] of Object.entries(rates)) byId(`out-${name}`).textContent = format(value);
  for (const [name, value] of Object.entries(cells)) byId(`out-${name}`).textContent = value.toLocaleString("en");
  for (const button of document.querySelectorAll("[data-threshold]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.threshold) === threshold));
  }
  const called = cells.true_positives + cells.false_positives;
  move("roc", 1 - rates.specificity, rates.sensitivity);
  move("pr", rates.sensitivity, called > 0 ? cells.true_positives / called : 1);
}

function startThreshold() {
  const value = byId("threshold-value");
  const slider = byId("threshold-slider");
  const percent = byId("prevalence");
  let threshold = data.threshold.start;
  let prevalence = data.threshold.prevalence;
  const set = (next) => {
    threshold = next;
    slider.value = next;
    show(threshold, prevalence);
  };
  slider.addEventListener("input", () => {
    value.value = slider.value;
    set(Number(slider.value));
  });
  value.addEventListener("input", () => {
    if (value.value !== "" && Number.isFinite(value.valueAsNumber)) set(value.valueAsNumber);
  });
  percent.addEventListener("input", () => {
    const given = percent.valueAsNumber / 100;
    const valid = given >= 0 && given <= 1;
    percent.setAttribute("aria-invalid", String(!valid));
    if (valid) {
      prevalence = given;
      show(threshold, prevalence);
    }
  });
  byId("own-prevalence").addEventListener("click", () => {
    prevalence = data.threshold.own_prevalence;
    percent.value = Number((100 * prevalence).toPrecision(4));
    show(threshold, prevalence);
  });
  for (const button of document.querySelectorAll("[data-threshold]")) {
    button.addEventListener("click", () => {
      value.value = button.dataset.threshold;
      set(Number(button.dataset.threshold));
    });
  }
  show(threshold, prevalence);
}

if (data.threshold) startThreshold();
