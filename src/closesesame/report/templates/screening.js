"use strict";
// All words on the page were there before: this shows, hides and marks, and writes the marks to a file.
(() => {
  const find = (id) => document.getElementById(id);
  const content = JSON.parse(find("content").textContent);
  const pairs = [...document.querySelectorAll("article.pair")];
  const cardOf = (pair) => content.cards[Number(pair.dataset.number)];
  const MARKS = ["kept", "dropped"];
  let unsaved = false;

  // Marks

  function draw(pair) {
    const { decision } = cardOf(pair);
    MARKS.forEach((mark) => pair.classList.toggle(mark, mark === decision));
    pair.querySelectorAll("[data-mark]").forEach((button) =>
      button.setAttribute("aria-pressed", String(button.dataset.mark === decision)));
  }
  /** Marks a clip, or takes the mark away if it has it. */
  function mark(pair, decision) {
    const card = cardOf(pair), next = neighbour(pair, 1) || neighbour(pair, -1);
    card.decision = card.decision === decision ? null : decision;
    unsaved = true;
    draw(pair);
    filter();
    // A clip that the choices now hide leaves its place to the next one.
    if (!pair.hidden) pair.focus({ preventScroll: true });
    else if (next) go(next);
  }
  const all = (mark) => content.cards.filter(({ decision }) => decision === mark);
  function count() {
    const shown = pairs.filter((pair) => !pair.hidden).length;
    const [kept, dropped] = MARKS.map((mark) => all(mark).length);
    find("counts").textContent =
      `${shown} of ${pairs.length} shown; ${kept} kept, ${dropped} dropped, ${pairs.length - kept - dropped} undecided`;
  }

  // Which clips are shown

  function fits(card) {
    const [label, flag, wanted] = ["by-label", "by-flag", "by-mark"].map((id) => find(id).value);
    return (label === "" || card.label === Number(label))
      && (flag === "" || card.flagged === (flag === "yes"))
      && (wanted === "" || (card.decision || "none") === wanted);
  }
  function filter() {
    pairs.forEach((pair) => { pair.hidden = !fits(cardOf(pair)); });
    find("none").hidden = pairs.some((pair) => !pair.hidden);
    count();
  }

  // Keys and sounds

  function neighbour(pair, step) {
    const shown = pairs.filter((other) => !other.hidden);
    return pair ? shown[shown.indexOf(pair) + step] : shown[0];
  }
  function go(pair) {
    pair.focus({ preventScroll: true });
    pair.scrollIntoView({ block: "nearest" });
  }
  function play(pair, which) {
    const sound = pair.querySelector(`audio.${which}`);
    if (!sound) return;
    if (!sound.paused) { sound.pause(); return; }
    sound.currentTime = 0;
    sound.play().catch(() => {}); // another one was started meanwhile
  }
  document.addEventListener("play", (event) => {
    document.querySelectorAll("audio").forEach((other) => { if (other !== event.target) other.pause(); });
  }, true);

  document.addEventListener("keydown", (event) => {
    const at = event.target, step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || at.closest("select")) return;
    const pair = at.closest("article.pair");
    if (step && (pair || step > 0) && !at.closest("audio")) {
      const next = neighbour(pair, step);
      if (!next) return;
      event.preventDefault();
      go(next);
      return;
    }
    if (!pair || (event.key === " " && at.closest("button, audio"))) return;
    const deeds = {
      " ": () => play(pair, "suspicious"), o: () => play(pair, "ordinary"),
      k: () => mark(pair, "kept"), d: () => mark(pair, "dropped"),
    };
    const deed = deeds[event.key.toLowerCase()];
    if (!deed) return;
    event.preventDefault();
    if (!event.repeat) deed();
  });

  // The list, which holds what was decided before of clips that have no card here

  function list() {
    const lists = MARKS.map((mark) => [mark, [...all(mark).map(({ id }) => id), ...content.others[mark]]]);
    return `${JSON.stringify(Object.fromEntries(lists), null, 2)}\n`;
  }
  find("save").onclick = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([list()], { type: "application/json" }));
    link.download = content.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    unsaved = false;
  };
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });

  find("filters").onsubmit = (event) => event.preventDefault();
  find("filters").onchange = filter;
  for (const pair of pairs) {
    pair.querySelectorAll("[data-mark]").forEach((button) => {
      button.onclick = () => mark(pair, button.dataset.mark);
    });
    draw(pair);
  }
  [find("tools"), find("keys"), ...document.querySelectorAll(".marks")].forEach((part) => { part.hidden = false; });
  filter();
})();
