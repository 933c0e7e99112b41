"use strict";
// All words come from the data through text nodes: nothing here is ever read as markup.
(() => {
  const find = (id) => document.getElementById(id);
  const grid = JSON.parse(find("content").textContent);
  const DASH = "–", SPACE = "\u00a0";
  const CHOSEN = ["data", "model", "poisoning_rate", "clean_fraction"];
  const ATTACK = 4, DEFENCE = 5;
  const CALLED = {
    data: "Data", model: "Model", poisoning_rate: "Poisoning rate", clean_fraction: "Clean fraction", seed: "Seed",
  };

  // Words and numbers

  const percent = (value) => (100 * value).toFixed(1);
  const share = (value) => `${Number((100 * value).toPrecision(6))}${SPACE}%`;
  const NUMBERS = [0, 1, 2].map((digits) =>
    new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  const thousands = (value, digits = 0) => NUMBERS[digits].format(value);
  const seconds = (value) => thousands(value, value < 10 ? 2 : value < 100 ? 1 : 0);
  const three = (value) => value.toFixed(3);
  const plural = (count, word) => `${thousands(count)} ${word}${count === 1 ? "" : "s"}`;
  const is = (name, index) => grid.places[name][index];
  const said = (name, index) => {
    if (index === null) return DASH;
    const value = is(name, index);
    return name === "poisoning_rate" || name === "clean_fraction" ? share(value) : String(value);
  };
  const attackOf = (field) => said("attack", field.place[ATTACK]);
  const defenceOf = (field) => said("defence", field.place[DEFENCE]);
  const isBare = (field) => is("defence", field.place[DEFENCE]) === "none";

  // Elements

  function put(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }
  const make = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
  const draw = (tag, attributes, ...children) =>
    put(document.createElementNS(find("plane").namespaceURI, tag), attributes, children);
  /** A name that may break after its underscores. */
  const name = (text) =>
    make("bdi", null, ...text.split(/(?<=[_\-])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part])));

  // Quantities: how they are written, and how bad a value is, from 0 to 1

  const extent = (key) => {
    const values = grid.fields.map((field) => field.figures[key]).filter(Boolean).map((figure) => figure[0]);
    return [Math.min(...values, Infinity), Math.max(...values, -Infinity)];
  };
  const floor = Math.min(0.9, Math.floor(10 * Math.max(0, extent("acc")[0])) / 10);
  const [fast, slow] = extent("seconds").map((value) => Math.max(value, 0.01));
  const QUANTITIES = {
    asr: {
      label: "ASR", text: percent, unit: `${SPACE}%`,
      note: "Attack success rate in %: how often the trigger works. Lower is better.",
      bad: (figures) => figures.asr[0],
      at: (bad) => share(bad),
    },
    ra: {
      label: "RA / reference", text: percent, unit: `${SPACE}%`,
      note: "Robust accuracy in %: how often triggered clips are still right; below it that of a model "
        + "that was never poisoned. Higher is better; the colour shows the share of it that is reached.",
      bad: (figures) => 1 - figures.ra[0] / ((figures.ra_reference && figures.ra_reference[0]) || 1),
      below: (figures) => figures.ra_reference && `/ ${percent(figures.ra_reference[0])}`,
      at: (bad) => share(1 - bad),
    },
    acc: {
      label: "ACC", text: percent, unit: `${SPACE}%`,
      note: "Clean accuracy in %: how often clean clips are right. Higher is better.",
      bad: (figures) => (1 - figures.acc[0]) / (1 - floor),
      at: (bad) => share(1 - bad * (1 - floor)),
    },
    der: {
      label: "DER", text: three, unit: "",
      note: "Defence effectiveness rating: 0.5 if nothing changed, 1 is the best. Higher is better; it is blind to RA.",
      bad: (figures) => 1 - figures.der[0],
      at: (bad) => (1 - bad).toFixed(1),
    },
    seconds: {
      label: "Seconds", text: seconds, unit: `${SPACE}s`,
      note: "Seconds that the defence took; under none, those of the training. Fewer is better; the scale is logarithmic.",
      bad: (figures) => slow > fast ? Math.log(Math.max(figures.seconds[0], 0.01) / fast) / Math.log(slow / fast) : 0,
      at: (bad) => Number.isFinite(fast) ? `${seconds(fast * (slow / fast) ** bad)}` : DASH,
      ends: ["fast", "slow"],
    },
  };
  const step = (bad) => Math.round(10 * Math.min(1, Math.max(0, bad)));

  // What is shown

  const counts = (key) => grid.places[key].map((_, i) =>
    grid.fields.filter((field) => field.place[CHOSEN.indexOf(key)] === i).length);
  const most = (key) => counts(key).reduce((best, count, i, all) => (count >= all[best] ? i : best), 0);
  const state = {
    data: 0, model: 0, poisoning_rate: most("poisoning_rate"), clean_fraction: most("clean_fraction"),
    seed: null, show: "asr", open: null, defence: null, zoom: false,
  };
  const usual = { ...state };

  /** A field without a clean fraction, such as that of none, is shown with any. */
  const isShown = (field) => CHOSEN.every((key, i) => field.place[i] === state[key] || field.place[i] === null);
  const shown = () => grid.fields.filter(isShown);
  const cellsOf = (field) => field.cells.map((i) => grid.cells[i]);
  /** What a field says for the chosen seed, or for all. */
  function look(field) {
    const cells = cellsOf(field).filter((cell) => state.seed === null || cell.seed === state.seed);
    const having = (wanted) => cells.filter((cell) => cell.state === wanted).length;
    const [done, failed] = [having("done"), having("failed")];
    const figures = state.seed === null || !cells.length ? field.figures : cells[0].figures;
    return {
      cells, done, failed, figures: done ? figures : {},
      state: done ? "done" : failed ? "failed" : cells.length ? "pending" : "absent",
    };
  }
  const between = (figure, text, unit) =>
    figure.length > 1 ? `${text(figure[0])}${unit} [${text(figure[1])}, ${text(figure[2])}]` : `${text(figure[0])}${unit}`;

  /** Arrow keys move through rows of elements, of which one can be reached by Tab. */
  function steer(box, rows) {
    const places = rows.flatMap((row, r) => row.map((item, c) => [item, r, c])).filter(([item]) => item);
    places.forEach(([item], i) => item.setAttribute("tabindex", i ? -1 : 0));
    const go = (item) => {
      places.forEach(([other]) => other.setAttribute("tabindex", other === item ? 0 : -1));
      item.focus();
    };
    box.onkeydown = (event) => {
      const here = places.find(([item]) => item === document.activeElement);
      const [down, right] = {
        ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
      }[event.key] || [0, 0];
      if (!here || !(down || right)) return;
      event.preventDefault();
      let [, r, c] = here;
      do { r += down; c += right; } while (rows[r] && c >= 0 && c < rows[r].length && !rows[r][c]);
      if (rows[r] && rows[r][c]) go(rows[r][c]);
    };
  }

  // The map

  function button(field) {
    const quantity = QUANTITIES[state.show], seen = look(field), figure = seen.figures[state.show];
    const partly = seen.done && seen.done < seen.cells.length;
    let words = seen.state === "failed" ? "failed" : "pending", kind = `${seen.state}-field`;
    let inside = [seen.state === "failed" ? make("b", { "aria-hidden": "true" }, "✗") : "…"];
    if (seen.state === "done") {
      const below = figure && quantity.below && quantity.below(seen.figures);
      kind = figure ? `s${step(quantity.bad(seen.figures))}` : "unknown-field";
      inside = figure ? [quantity.text(figure[0]), below && make("small", null, below)] : [DASH];
      words = figure ? between(figure, quantity.text, quantity.unit) + (below ? ` ${below}` : "") : "not measured";
      if (seen.cells.length > 1) words += `, mean of ${plural(seen.done, "seed")}`;
      if (seen.failed) words += `, ${seen.failed} failed`;
      if (partly && seen.done + seen.failed < seen.cells.length) words += ", not all done";
    }
    const title = `${attackOf(field)}, ${defenceOf(field)}: ${quantity.label} ${words}`;
    const made = make("button", {
      type: "button", class: `field ${kind}${partly ? " partly" : ""}`, title, "aria-label": title,
      "aria-pressed": String(field === state.open),
    }, inside);
    made.onclick = () => (field === state.open ? close() : open(field, true));
    buttons.set(field, made);
    return made;
  }

  const buttons = new Map();
  function drawMap() {
    const fields = shown().filter((field) => look(field).state !== "absent");
    const used = (at) => [...new Set(fields.map((field) => field.place[at]))].sort((a, b) => a - b);
    const attacks = used(ATTACK), defences = used(DEFENCE);
    const known = new Map(fields.map((field) => [`${field.place[ATTACK]} ${field.place[DEFENCE]}`, field]));
    buttons.clear();
    const rows = attacks.map((a) => defences.map((d) => known.get(`${a} ${d}`)).map((field) => field && button(field)));
    const side = (d) => (is("defence", d) === "none" ? "first" : null);
    const head = defences.map((d) => make("th", { scope: "col", class: side(d) }, name(said("defence", d))));
    const body = rows.map((row, r) => make("tr", null,
      make("th", { scope: "row" }, name(said("attack", attacks[r]))),
      row.map((item, c) => make("td", { class: item ? side(defences[c]) : "absent" }, item || DASH))));
    const table = make("table", { class: "map", id: "heat-map", "aria-labelledby": "map-title" },
      make("thead", null, make("tr", null, make("th", { scope: "col" }, "defence →", make("br"), "attack ↓"), head)),
      make("tbody", null, body));
    table.style.minWidth = `${8 + 3.4 * defences.length}rem`;
    find("map").replaceChildren(fields.length ? table : make("p", { class: "note" }, "No cell has these settings."));
    fit();
    steer(table, rows);
    find("map-note").textContent = QUANTITIES[state.show].note;
    drawLegend(fields);
  }

  /** Names of defences stand upright where they have no room. */
  function fit() {
    const table = find("heat-map"), rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    if (!table) return;
    const columns = table.rows[0].cells.length - 1;
    table.classList.toggle("upright", (find("map").clientWidth - 11 * rem) / columns < 5.2 * rem);
  }

  const SIDES = { 0: "start", 1: "end" };
  function drawLegend(fields) {
    const quantity = QUANTITIES[state.show], ends = quantity.ends || ["good", "bad"];
    const scale = make("div", { class: "scale", "aria-hidden": "true" },
      Array.from({ length: 11 }, (_, i) => make("i", { class: `s${i}` })),
      [0, 0.5, 1].map((bad) => make("span", { class: SIDES[bad] }, quantity.at(bad))),
      ends.map((end, i) => make("em", { class: SIDES[i] }, end)));
    const columns = [[1, 4], [5, 8], [9, 12], [1, 4], [9, 12]];
    [...scale.children].slice(11).forEach((item, i) => { item.style.gridColumn = columns[i].join(" / "); });
    const seen = fields.map(look), marks = [];
    const mark = (kind, words, inside) =>
      marks.push(make("li", null, make("span", { class: `field ${kind}`, "aria-hidden": "true" }, inside), words));
    if (seen.some((one) => one.state === "failed")) mark("failed-field", "failed", make("b", null, "✗"));
    if (seen.some((one) => one.state === "pending")) mark("pending-field", "pending", "…");
    if (seen.some((one) => one.done && one.done < one.cells.length)) mark("unknown-field partly", "not all seeds", null);
    find("legend").replaceChildren(scale, make("ul", { class: "marks" }, marks));
  }

  // The panel

  let sounds = null;
  function player(number) {
    sounds = sounds || JSON.parse(find("sounds").textContent);
    return `data:audio/wav;base64,${sounds[number]}`;
  }
  /** The field of the same place without a defence. */
  const bare = (field) => isBare(field) ? null : grid.fields.find((other) =>
    isBare(other) && [0, 1, 2, ATTACK].every((i) => other.place[i] === field.place[i])) || null;

  const LINES = [
    ["acc", "ACC", percent], ["asr", "ASR", percent], ["ra", "RA", percent], ["ra_reference", "RA of reference", percent],
    ["ra_reference_repaired", "RA of reference, repaired", percent],
    ["der", "DER", three], ["seconds", "Seconds", seconds], ["peak_mb", "Peak MB", (value) => thousands(value)],
  ];
  function seedTable(field) {
    const cells = cellsOf(field), before = bare(field);
    const columns = [
      before && ["before", before.figures, ""],
      ["mean", field.figures, "mean"],
      ...(cells.length > 1 ? cells : []).map((cell) => [`seed ${said("seed", cell.seed)}`, cell.figures, ""]),
    ].filter(Boolean);
    if (cells.length === 1) columns[columns.length - 1][0] = `seed ${said("seed", cells[0].seed)}`;
    const box = ([key, , text], [, figures, kind]) => {
      const figure = figures[key];
      return make("td", { class: kind || null }, figure ? text(figure[0]) : DASH,
        figure && figure.length > 1
          ? make("span", { class: "interval" }, `${text(figure[1])} ${DASH} ${text(figure[2])}`) : null,
        figure && figure.length > 3
          ? make("span", { class: "interval" }, `seeds ${text(figure[3])} ${DASH} ${text(figure[4])}`) : null);
    };
    return make("div", { class: "wide", role: "region", tabindex: "0", "aria-label": "Figures" },
      make("table", { class: "seeds" },
        make("thead", null, make("tr", null, make("td"), columns.map(([title]) => make("th", { scope: "col" }, title)))),
        make("tbody", null, LINES.filter(([key]) => columns.some(([, figures]) => figures[key])).map((line) =>
          make("tr", null, make("th", { scope: "row" }, line[1]), columns.map((column) => box(line, column)))))));
  }

  const pairs = (entries) => make("dl", { class: "pairs" }, entries.flatMap(([key, value]) =>
    [make("dt", null, name(key)), make("dd", null, make("bdi", null, value))]));
  /** A setting in words: short numbers, no braces. */
  function plain(value) {
    if (value === null) return DASH;
    if (Array.isArray(value)) return value.map(plain).join(", ");
    if (typeof value === "object") return Object.entries(value).map(([key, inner]) => `${key} ${plain(inner)}`).join(", ");
    if (typeof value === "boolean") return value ? "yes" : "no";
    return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
  }
  function settings(title, cell, kind) {
    const entries = Object.entries(grid.settings[cell.settings[kind]]).map(([key, value]) => [key, plain(value)]);
    return [make("h4", null, title), entries.length ? pairs(entries) : make("p", { class: "note" }, "All as by default.")];
  }
  function range(cells, key, text) {
    const values = cells.map((cell) => cell.counts[key]).filter((value) => Number.isFinite(value));
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return values.length ? (low === high ? text(low) : `${text(low)} ${DASH} ${text(high)}`) : DASH;
  }
  const ONE = (value) => `${value.toFixed(1)}${SPACE}dB`, TWO = (value) => value.toFixed(2);
  const STEALTH = [
    ["SNR", "snr_db", ONE], ["log-spectral distance", "lsd_db", ONE], ["PESQ", "pesq", TWO], ["STOI", "stoi", TWO],
  ];
  /** How much the trigger changes clips, as far as it was measured. */
  function stealth(cells) {
    const known = STEALTH.filter(([, key]) => cells.some((cell) => Number.isFinite(cell.counts[key])));
    return known.length ? [make("h4", null, "Change by the trigger"),
      pairs(known.map(([title, key, text]) => [title, range(cells, key, text)]))] : [];
  }
  function listen(field) {
    const held = cellsOf(bare(field) || field).find((cell) => cell.sounds);
    if (!held) return [];
    return [make("h4", { class: "listen" }, "Listen"), make("div", { class: "listen" }, ["Clean", "Triggered"].flatMap((title, i) => [
      make("span", null, title),
      make("audio", { controls: true, preload: "metadata", "aria-label": `${title} clip`, src: player(held.sounds[i]) }),
    ]))];
  }

  function drawPanel(field) {
    const cells = cellsOf(field), first = cells[0], place = field.place;
    const where = [
      said("data", place[0]), said("model", place[1]),
      place[2] === null ? null : `poisoning rate ${said("poisoning_rate", place[2])}`,
      place[3] === null ? null : `clean fraction ${said("clean_fraction", place[3])}`,
    ].filter(Boolean).join(", ");
    const shut = make("button", { type: "button", class: "close", "aria-label": "Close" }, "✕");
    shut.onclick = () => close();
    const failed = cells.filter((cell) => cell.state === "failed");
    const waiting = cells.filter((cell) => cell.state === "pending");
    find("panel").replaceChildren(
      shut,
      make("h3", { id: "panel-title", tabindex: "-1" }, name(attackOf(field)), " against ", name(defenceOf(field))),
      make("p", { class: "note" }, where),
      ...failed.map((cell) => make("p", { class: "care" },
        make("strong", null, `Seed ${said("seed", cell.seed)} failed: `), make("bdi", null, cell.error || "no error was recorded"))),
      ...(waiting.length ? [make("p", { class: "care" }, `${plural(waiting.length, "seed")} pending.`)] : []),
      make("h4", null, "Figures"),
      seedTable(field),
      make("p", { class: "note" }, "Rates in %; below each stands its Wilson 95 % interval on the test clips of one seed, and below a mean "
        + "the range over the seeds."),
      ...listen(field),
      ...stealth(cells),
      make("h4", null, "Poison and clips"),
      pairs([
        ["poisoned clips", range(cells, "poisoned_clips", thousands)],
        ["share of their class", range(cells, "poisoned_share_of_target", (v) => `${percent(v)}${SPACE}%`)],
        ["training clips", range(cells, "training_clips", thousands)],
        ["test clips", range(cells, "test_clips", thousands)],
        ["triggered clips", range(cells, "triggered_clips", thousands)],
        ["task", first.task === null ? DASH : String(first.task)],
      ]),
      ...settings("Attack", first, "attack"),
      ...(isBare(field) ? [] : settings("Defence", first, "defence")),
      ...cells.filter((cell) => Object.keys(grid.settings[cell.settings.chosen]).length)
        .flatMap((cell) => settings(`Chosen by the defence, seed ${said("seed", cell.seed)}`, cell, "chosen")),
      ...settings("Training", first, "training"),
      make("h4", null, plural(cells.length, "cell")),
      make("p", { class: "ids" }, cells.map((cell) => cell.id).join(" ")),
    );
    find("panel").scrollTop = 0;
  }

  let opener = null;
  function open(field, move) {
    state.open = field;
    if (!find("panel").contains(document.activeElement)) opener = document.activeElement;
    drawPanel(field);
    find("panel").hidden = false;
    document.documentElement.classList.add("with-panel");
    mark();
    remember();
    if (!move) return;
    find("panel-title").focus();
    show(field);
  }
  function show(field) {
    const seen = buttons.get(field);
    if (seen) seen.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  function close() {
    const last = opener && opener.isConnected && opener !== document.body ? opener : buttons.get(state.open);
    state.open = null;
    find("panel").hidden = true;
    find("panel").replaceChildren();
    document.documentElement.classList.remove("with-panel");
    mark();
    remember();
    if (last) last.focus({ preventScroll: true });
  }
  function mark() {
    buttons.forEach((item, field) => item.setAttribute("aria-pressed", String(field === state.open)));
    points.forEach((item, field) => item.classList.toggle("open", field === state.open));
  }

  // Accuracy against attack

  const SHAPES = [
    "M-5.2 0a5.2 5.2 0 1 0 10.4 0a5.2 5.2 0 1 0 -10.4 0", "M-4.6 -4.6h9.2v9.2h-9.2z", "M0 -6l5.8 10h-11.6z",
    "M0 -6.4l5.4 6.4l-5.4 6.4l-5.4 -6.4z", "M0 6l5.8 -10h-11.6z", "M-2 -6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  ];
  const looks = (defence) => {
    if (is("defence", defence) === "none") return { class: "shape d-none", d: SHAPES[0] };
    const i = defence - (grid.places.defence[0] === "none" ? 1 : 0);
    return { class: `shape d${i % 8}`, d: SHAPES[i % SHAPES.length] };
  };
  const points = new Map();
  let drawnWidth = 0;

  function drawPlane() {
    const box = find("plane");
    drawnWidth = box.parentNode.clientWidth;
    const width = Math.max(300, Math.min(740, drawnWidth || 740));
    const height = Math.round(Math.max(300, 0.62 * width));
    const [left, right, top, bottom] = [44, 12, 24, 46];
    const held = shown().map((field) => [field, look(field).figures])
      .filter(([, figures]) => figures.acc && figures.asr);
    const lowest = Math.min(1, ...held.map(([, figures]) => figures.acc[0]));
    const most = state.zoom ? 0.25 : 1;
    const zoomed = Math.max(Math.floor(20 * lowest) / 20, 0.8);
    const least = Math.min(0.9, state.zoom ? zoomed : Math.floor(10 * lowest) / 10);
    const x = (asr) => left + (asr / most) * (width - left - right);
    const y = (acc) => top + ((1 - acc) / (1 - least)) * (height - top - bottom);
    const inside = (figures) => figures.asr[0] <= most && figures.acc[0] >= least;
    const parts = [];
    const grades = (from, to) => {
      const by = [0.02, 0.05, 0.1, 0.2, 0.25].find((size) => (to - from) / size <= 5.01) || 0.25;
      return Array.from({ length: Math.floor((to - from) / by + 1.01) }, (_, i) => to - i * by);
    };
    for (const asr of grades(0, most)) {
      parts.push(draw("line", { class: "line", x1: x(asr), x2: x(asr), y1: top, y2: height - bottom }),
        draw("text", { x: x(asr), y: height - bottom + 17, "text-anchor": "middle" }, String(Math.round(100 * asr))));
    }
    for (const acc of grades(least, 1)) {
      parts.push(draw("line", { class: "line", x1: left, x2: width - right, y1: y(acc), y2: y(acc) }),
        draw("text", { x: left - 8, y: y(acc) + 4, "text-anchor": "end" }, String(Math.round(100 * acc))));
    }
    const radius = 0.3 * (height - top - bottom);
    parts.push(
      draw("path", { class: "corner", d: `M${left} ${top}h${radius}a${radius} ${radius} 0 0 1 ${-radius} ${radius}z` }),
      draw("text", { class: "corner-name", x: left, y: top - 9 }, "good corner"),
      draw("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "ASR, %: how often the trigger works"),
      draw("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)` },
        "ACC, %: how often clean clips are right"));
    points.clear();
    const drawn = held.filter(([, figures]) => inside(figures))
      .sort((a, b) => a[1].asr[0] - b[1].asr[0] || b[1].acc[0] - a[1].acc[0])
      .map(([field, figures]) => point(field, figures, x, y, [left, width - right, top, height - bottom]));
    put(box, { viewBox: `0 0 ${width} ${height}` }, []);
    box.replaceChildren(...parts, ...drawn);
    steer(box, [drawn]);
    mark();
    fade();
    find("tip").hidden = true;
  }

  function point(field, figures, x, y, [left, right, top, bottom]) {
    const [across, up] = [x(figures.asr[0]), y(figures.acc[0])];
    const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
    const text = `${attackOf(field)}, ${defenceOf(field)}\nASR ${between(figures.asr, percent, `${SPACE}%`)}\n`
      + `ACC ${between(figures.acc, percent, `${SPACE}%`)}`;
    const cross = figures.asr.length > 1 && figures.acc.length > 1
      ? draw("path", { class: "cross", d: `M${clamp(x(figures.asr[1]), left, right) - across} 0`
        + `H${clamp(x(figures.asr[2]), left, right) - across}M0 ${clamp(y(figures.acc[1]), top, bottom) - up}`
        + `V${clamp(y(figures.acc[2]), top, bottom) - up}` }) : null;
    const made = draw("g", {
      class: "point", transform: `translate(${across.toFixed(1)} ${up.toFixed(1)})`, role: "button",
      "aria-label": text.replaceAll("\n", ", "),
    }, draw("circle", { class: "reach", r: 9 }), cross, draw("path", looks(field.place[DEFENCE])));
    const tip = find("tip");
    const tell = () => {
      const scale = find("plane").clientWidth / find("plane").viewBox.baseVal.width;
      tip.textContent = text;
      tip.hidden = false;
      const wide = tip.parentNode.clientWidth - tip.offsetWidth;
      tip.style.left = `${clamp(scale * across + 14, 0, Math.max(0, wide))}px`;
      tip.style.top = `${scale * up + 16}px`;
    };
    made.onpointerenter = made.onfocus = tell;
    made.onpointerleave = made.onblur = () => { tip.hidden = true; };
    made.onclick = () => open(field, false);
    made.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      open(field, true);
    };
    points.set(field, made);
    return made;
  }
  function fade() {
    points.forEach((item, field) =>
      item.classList.toggle("faded", state.defence !== null && field.place[DEFENCE] !== state.defence));
  }

  function drawKeys() {
    const used = [...new Set(shown().map((field) => field.place[DEFENCE]))].sort((a, b) => a - b);
    if (!used.includes(state.defence)) state.defence = null;
    find("keys").replaceChildren(...used.map((defence) => {
      const sample = draw("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, draw("path", looks(defence)));
      const item = make("button", { type: "button", "aria-pressed": String(defence === state.defence) },
        sample, name(said("defence", defence)));
      item.onclick = () => {
        state.defence = state.defence === defence ? null : defence;
        [...find("keys").querySelectorAll("button")].forEach((other) =>
          other.setAttribute("aria-pressed", String(other === item && state.defence !== null)));
        fade();
      };
      return make("li", null, item);
    }));
  }

  // Seconds

  function drawTimes() {
    const taken = new Map();
    for (const field of shown().filter((one) => !isBare(one))) {
      const figure = look(field).figures.seconds;
      if (figure) taken.set(field.place[DEFENCE], [...(taken.get(field.place[DEFENCE]) || []), figure[0]]);
    }
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const rows = [...taken].map(([defence, values]) =>
      [defence, mean(values), Math.min(...values), Math.max(...values)]).sort((a, b) => a[1] - b[1]);
    const longest = Math.max(...rows.map((row) => row[3]), 0.01);
    find("times").replaceChildren(...rows.map(([defence, middle, low, high]) => {
      const bar = make("i"), line = make("b");
      bar.style.width = `${(100 * middle) / longest}%`;
      line.style.left = `${(100 * low) / longest}%`;
      line.style.width = `${(100 * (high - low)) / longest}%`;
      return make("li", null, name(said("defence", defence)), make("div", { class: "track", "aria-hidden": "true" }, bar, line),
        make("span", null, `${seconds(middle)}${SPACE}s`),
        make("span", { class: "soft" }, low < high ? `${seconds(low)} ${DASH} ${seconds(high)}` : ""));
    }));
    const training = shown().filter(isBare).map((field) => look(field).figures.seconds).filter(Boolean).map((f) => f[0]);
    find("time-note").textContent = !rows.length ? "No defence was timed." :
      "Mean over the fields of the map; the thin line is their range."
      + (training.length ? ` Training a model took ${seconds(mean(training))}${SPACE}s.` : "");
  }

  // Failures

  const link = (cell, words) => make("a", { href: `#${new URLSearchParams({ cell: cell.id })}` }, words);
  /** Where a cell stands, without what is the same for all. */
  const where = (cell) => CHOSEN.map((key, i) =>
    grid.places[key].length > 1 && cell.place[i] !== null ? WORDS[key](said(key, cell.place[i])) : null)
    .concat(`seed ${said("seed", cell.seed)}`).filter(Boolean).join(", ");
  const WORDS = {
    data: (value) => value, model: (value) => value,
    poisoning_rate: (value) => `${value} poisoned`, clean_fraction: (value) => `${value} clean`,
  };
  function drawFailures() {
    const groups = new Map();
    for (const cell of grid.cells.filter((one) => one.state === "failed")) {
      const error = cell.error || "No error was recorded.";
      groups.set(error, [...(groups.get(error) || []), cell]);
    }
    const parts = [...groups].map(([error, cells]) => make("article", null,
      make("h3", null, make("bdi", null, error)),
      make("ul", null, cells.map((cell) => make("li", null,
        link(cell, make("bdi", null, `${said("attack", cell.place[ATTACK])} against ${said("defence", cell.place[DEFENCE])}`)),
        make("span", { class: "soft" }, ` ${where(cell)}`))))));
    find("failures").replaceChildren(...(parts.length ? parts : [make("p", { class: "note" }, "No cell failed.")]));
  }

  // All cells

  const placed = (title, key, at) => ({
    title, key: (cell) => cell.place[at], text: (cell) => said(key, cell.place[at]), number: at === 2 || at === 3,
  });
  const figured = (title, key, text) => ({
    title, number: true,
    key: (cell) => (cell.figures[key] ? cell.figures[key][0] : null),
    text: (cell) => (cell.figures[key] ? text(cell.figures[key][0]) : DASH),
  });
  /** Names are sorted as words, not in the order of the grid. */
  const named = (title, key, at) => ({ ...placed(title, key, at), key: (cell) => said(key, cell.place[at]), name: true });
  const COLUMNS = [
    named("Attack", "attack", ATTACK), named("Defence", "defence", DEFENCE), named("Data", "data", 0),
    named("Model", "model", 1), placed("Poison", "poisoning_rate", 2), placed("Clean", "clean_fraction", 3),
    { title: "Seed", number: true, key: (cell) => cell.seed, text: (cell) => said("seed", cell.seed) },
    { title: "State", key: (cell) => cell.state, text: (cell) => cell.state },
    figured("ACC", "acc", percent), figured("ASR", "asr", percent), figured("RA", "ra", percent),
    figured("Reference", "ra_reference", percent), figured("DER", "der", three), figured("s", "seconds", seconds),
    figured("MB", "peak_mb", (value) => thousands(value)),
  ];

  function drawRows() {
    const lines = grid.cells.map((cell, number) => {
      const texts = COLUMNS.map((column) => column.text(cell));
      const node = make("tr", { class: cell.state === "failed" ? "is-failed" : null }, COLUMNS.map((column, i) =>
        i ? make("td", { class: column.number ? "n" : column.name ? "name" : null }, texts[i])
          : make("th", { scope: "row", class: "name" }, link(cell, make("bdi", null, texts[i])))));
      return { cell, number, node, words: [...texts, cell.error || "", cell.id].join(" ").replaceAll(SPACE, " ").toLowerCase() };
    });
    const body = make("tbody", null, lines.map((line) => line.node));
    const heads = COLUMNS.map((column, i) => {
      const press = make("button", { type: "button" }, column.title);
      const head = make("th", { scope: "col", class: column.number ? "n" : null, "aria-sort": "none" }, press);
      press.onclick = () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        body.append(...[...lines].sort((a, b) => compare(column.key(a.cell), column.key(b.cell), sign) || a.number - b.number)
          .map((line) => line.node));
      };
      return head;
    });
    find("rows").replaceChildren(make("table", { class: "rows", "aria-labelledby": "rows-title" },
      make("thead", null, make("tr", null, heads)), body));
    const filter = () => {
      const words = find("find").value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const line of lines) {
        line.node.hidden = !words.every((word) => line.words.includes(word));
        count += !line.node.hidden;
      }
      find("found").textContent = count === lines.length ? plural(count, "cell") : `${thousands(count)} of ${plural(lines.length, "cell")}`;
    };
    find("find").oninput = filter;
    filter();
  }
  /** What is not known comes last, whatever the direction. */
  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  }

  // Controls, and the address that remembers them

  function drawControls() {
    const control = (key) => {
      const values = grid.places[key];
      if (key !== "seed" && values.length < 2) {
        return values.length ? make("div", null, CALLED[key], make("output", null, make("bdi", null, said(key, 0)))) : null;
      }
      const box = make("select", { id: `choose-${key}` },
        key === "seed" ? make("option", { value: "" }, "mean of all") : null,
        values.map((_, i) => make("option", { value: i }, said(key, i))));
      box.onchange = () => {
        state[key] = box.value === "" ? null : Number(box.value);
        refresh();
      };
      return make("label", null, CALLED[key], box);
    };
    find("filters").replaceChildren(...[...CHOSEN, "seed"].map(control).filter(Boolean));
    find("filters").onsubmit = (event) => event.preventDefault();
    find("quantities").append(...Object.entries(QUANTITIES).map(([key, quantity]) => {
      const input = make("input", { type: "radio", name: "show", value: key, id: `show-${key}` });
      input.onchange = () => { state.show = key; drawMap(); remember(); };
      return make("label", null, input, make("span", null, quantity.label));
    }));
    find("zoom").onchange = () => { state.zoom = find("zoom").checked; drawPlane(); };
    document.addEventListener("keydown", (event) => { if (event.key === "Escape" && state.open) close(); });
    window.addEventListener("hashchange", () => { recall(); refresh(); });
    const resized = new ResizeObserver(() => requestAnimationFrame(() => {
      fit();
      if (Math.abs(find("plane").parentNode.clientWidth - drawnWidth) > 8) drawPlane();
    }));
    [find("plane").parentNode, find("map")].forEach((box) => resized.observe(box));
  }
  function showControls() {
    for (const key of [...CHOSEN, "seed"]) {
      const box = find(`choose-${key}`);
      if (box) box.value = state[key] === null ? "" : state[key];
    }
    find(`show-${state.show}`).checked = true;
  }

  function refresh() {
    if (state.open && !isShown(state.open)) {
      const same = shown().find((field) => [ATTACK, DEFENCE].every((at) => field.place[at] === state.open.place[at]));
      state.open = same || null;
    }
    showControls();
    drawMap();
    drawKeys();
    drawPlane();
    drawTimes();
    if (state.open) open(state.open, false);
    else if (!find("panel").hidden) close();
    remember();
  }

  function remember() {
    const words = new URLSearchParams();
    if (state.open) words.set("cell", state.open.cells.map((i) => grid.cells[i].id)[0]);
    for (const key of [...CHOSEN, "seed"]) {
      if (state[key] !== usual[key] && !(state.open && key !== "seed" && state.open.place[CHOSEN.indexOf(key)] !== null)) {
        words.set(key, state[key] === null ? "" : is(key, state[key]));
      }
    }
    if (state.show !== usual.show) words.set("show", state.show);
    const wanted = String(words) ? `#${words}` : "#";
    if (wanted !== (location.hash || "#")) history.replaceState(null, "", wanted);
  }
  function recall() {
    const words = new URLSearchParams(location.hash.slice(1));
    const cell = grid.cells.findIndex((one) => one.id === words.get("cell"));
    if (cell >= 0) {
      state.open = grid.fields.find((field) => field.cells.includes(cell));
      CHOSEN.forEach((key, i) => { state[key] = state.open.place[i] ?? state[key]; });
      if (state.seed !== grid.cells[cell].seed) state.seed = null;
    }
    for (const key of [...CHOSEN, "seed"]) {
      const found = grid.places[key].findIndex((value) => String(value) === words.get(key));
      if (found >= 0) state[key] = found;
    }
    if (Object.hasOwn(QUANTITIES, words.get("show"))) state.show = words.get("show");
  }

  drawControls();
  recall();
  refresh();
  drawFailures();
  drawRows();
  if (state.open) show(state.open);
  document.body.getBoundingClientRect(); // so that the time below holds the layout
  document.documentElement.dataset.loadedMs = Math.round(performance.now());
})();
