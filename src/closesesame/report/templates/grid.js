"use strict";
// All words come from the data through text nodes: nothing here is ever read as markup.
(() => {
  const find = (id) => document.getElementById(id);
  const grid = JSON.parse(find("content").textContent);
  const DASH = "–", SPACE = "\u00a0";
  // Places of a field, in the order in which it has them.
  const [DATA, MODEL, RATE, FRACTION, ATTACK, FAMILY, METHOD] = [0, 1, 2, 3, 4, 5, 6];
  const CHOSEN = ["data", "model", "poisoning_rate", "clean_fraction"];
  const CALLED = {
    data: "Data", model: "Model", poisoning_rate: "Poisoning rate", clean_fraction: "Clean fraction", seed: "Seed",
  };

  // Words and numbers

  const percent = (value, digits = 1) => (100 * value).toFixed(digits);
  const share = (value) => `${Number((100 * value).toPrecision(6))}${SPACE}%`;
  const NUMBERS = [0, 1, 2].map((digits) =>
    new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  const thousands = (value, digits = 0) => NUMBERS[digits].format(value);
  const seconds = (value) => thousands(value, value < 10 ? 2 : value < 100 ? 1 : 0);
  /** How values of a unit are written, and what stands behind them. */
  const UNITS = {
    share: (digits) => [(value) => percent(value, digits), `${SPACE}%`],
    s: () => [seconds, `${SPACE}s`],
    MB: () => [(value) => thousands(value), `${SPACE}MB`],
    dB: (digits) => [(value) => value.toFixed(digits), `${SPACE}dB`],
    number: (digits) => [(value) => value.toFixed(digits), ""],
  };
  const plural = (count, word) => `${thousands(count)} ${word}${count === 1 ? "" : "s"}`;
  const is = (name, index) => grid.places[name][index];
  const said = (name, index) => {
    if (index === null) return DASH;
    const value = is(name, index);
    return name === "poisoning_rate" || name === "clean_fraction" ? share(value) : String(value);
  };
  const attackOf = (field) => said("attack", field.place[ATTACK]);
  const methodOf = (field) => said("method", field.place[METHOD]);
  const bareMethods = new Set(grid.fields.filter((field) => field.bare).map((field) => field.place[METHOD]));

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

  // Measures: how they are written, and how bad a value is, from 0 to 1

  const MEASURES = new Map(grid.measures.map((about) => {
    const [text, suffix] = UNITS[about.unit](about.digits);
    const measure = { ...about, text, suffix };
    measure.said = (value) => `${text(value)}${suffix}`;
    measure.value = (figures) => (figures[about.key] ? figures[about.key][0] : null);
    return [about.key, Object.assign(measure, scale(measure))];
  }));
  const named = (keys) => keys.map((key) => MEASURES.get(key)).filter(Boolean);
  const heading = ({ name: words, suffix }) => `${capital(words)}${suffix ? `, ${suffix.trim()}` : ""}`;
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

  /** From figures to how bad they are, and back to the value at an end of the scale. */
  function scale({ key, unit, better, beside }) {
    const values = grid.fields.map((field) => field.figures[key]).filter(Boolean).map((figure) => figure[0]);
    let [low, high] = [Math.min(...values, Infinity), Math.max(...values, -Infinity)];
    if (!better) return { bad: () => null, at: () => null };
    if (unit === "s" || unit === "MB") {
      [low, high] = [low, high].map((value) => Math.log(Math.max(value, 0.01)));
      const place = (value) => (high > low ? (Math.log(Math.max(value, 0.01)) - low) / (high - low) : 0);
      return turned(key, better, place, (where) => Math.exp(low + where * (high - low)));
    }
    if (unit === "share" || (low >= 0 && high <= 1)) {
      // The scale of a share that is good when high begins at the lowest, or it would be of one colour.
      low = better === "higher" && !beside && unit === "share" ? Math.min(0.9, Math.floor(10 * Math.max(0, low)) / 10) : 0;
      high = 1;
    }
    const place = (value) => (high > low ? (value - low) / (high - low) : 0);
    const found = turned(key, better, place, (where) => low + where * (high - low));
    if (!beside) return found;
    const most = (figures) => (figures[beside] && figures[beside][0]) || 1;
    return { ...found, bad: (figures) => 1 - figures[key][0] / most(figures) };
  }
  function turned(key, better, place, value) {
    return {
      bad: (figures) => (better === "lower" ? place(figures[key][0]) : 1 - place(figures[key][0])),
      at: (bad) => value(better === "lower" ? bad : 1 - bad),
    };
  }
  const step = (bad) => Math.round(10 * Math.min(1, Math.max(0, bad)));

  // What is shown

  const counts = (key) => grid.places[key].map((_, i) =>
    grid.fields.filter((field) => field.place[CHOSEN.indexOf(key)] === i).length);
  const most = (key) => counts(key).reduce((best, count, i, all) => (count >= all[best] ? i : best), 0);
  const familyOf = (field) => grid.families.findIndex((family) => family.name === is("family", field.place[FAMILY]));
  /** What can be chosen for the map: what is good or bad, and not only there to compare with. */
  const switchable = (family) => {
    const compared = new Set(grid.measures.map((measure) => measure.beside));
    return named([...new Set([...grid.families[family].measures, ...grid.of_cost])])
      .filter((measure) => measure.better && !compared.has(measure.key));
  };
  const usualFamily = Math.max(0, grid.families.findIndex((_, i) => grid.fields.some((field) => familyOf(field) === i)));
  const state = {
    data: 0, model: 0, poisoning_rate: most("poisoning_rate"), clean_fraction: most("clean_fraction"),
    seed: null, family: usualFamily, show: switchable(usualFamily)[0].key, open: null, method: null, zoom: false,
  };
  const usual = { ...state };
  const family = () => grid.families[state.family];
  const shownMeasure = () => MEASURES.get(state.show);

  /** The models without a method stand in the tab of each family whose measures they have. */
  const inTab = (field) => (field.bare
    ? family().measures.some((key) => field.figures[key]) || field.cells.every((i) => grid.cells[i].state !== "done")
    : familyOf(field) === state.family);
  /** A field without a clean fraction, such as one without a method, is shown with any. */
  const isChosen = (field) => CHOSEN.every((key, i) => field.place[i] === state[key] || field.place[i] === null);
  const isShown = (field) => inTab(field) && isChosen(field);
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
  const between = (figure, { text, said }) =>
    figure.length > 1 ? `${said(figure[0])} [${text(figure[1])}, ${text(figure[2])}]` : said(figure[0]);

  /** Arrow keys move through rows of elements, of which one can be reached by Tab. */
  function steer(box, rows, first = 0) {
    const places = rows.flatMap((row, r) => row.map((item, c) => [item, r, c])).filter(([item]) => item);
    places.forEach(([item], i) => item.setAttribute("tabindex", i === first ? 0 : -1));
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
    const measure = shownMeasure(), seen = look(field), figure = seen.figures[state.show];
    const partly = seen.done && seen.done < seen.cells.length;
    let words = seen.state === "failed" ? "failed" : "pending", kind = `${seen.state}-field`;
    let inside = [seen.state === "failed" ? make("b", { "aria-hidden": "true" }, "✗") : "…"];
    if (seen.state === "done") {
      const beside = figure && seen.figures[measure.beside];
      const below = beside ? `/ ${measure.text(beside[0])}` : null;
      kind = figure ? `s${step(measure.bad(seen.figures))}` : "unknown-field";
      inside = figure ? [measure.text(figure[0]), below && make("small", null, below)] : [DASH];
      words = figure ? between(figure, measure) + (below ? ` ${below}` : "") : "not measured";
      if (seen.cells.length > 1) words += `, mean of ${plural(seen.done, "seed")}`;
      if (seen.failed) words += `, ${seen.failed} failed`;
      if (partly && seen.done + seen.failed < seen.cells.length) words += ", not all done";
    }
    const title = `${attackOf(field)}, ${methodOf(field)}: ${measure.name} ${words}`;
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
    const attacks = used(ATTACK), methods = used(METHOD);
    const known = new Map(fields.map((field) => [`${field.place[ATTACK]} ${field.place[METHOD]}`, field]));
    buttons.clear();
    const rows = attacks.map((a) => methods.map((m) => known.get(`${a} ${m}`)).map((field) => field && button(field)));
    const side = (m) => (bareMethods.has(m) ? "first" : null);
    const head = methods.map((m) => make("th", { scope: "col", class: side(m) }, name(said("method", m))));
    const body = rows.map((row, r) => make("tr", null,
      make("th", { scope: "row" }, name(said("attack", attacks[r]))),
      row.map((item, c) => make("td", { class: item ? side(methods[c]) : "absent" }, item || DASH))));
    const table = make("table", { class: "map", id: "heat-map", "aria-labelledby": "map-title" },
      make("thead", null, make("tr", null, make("th", { scope: "col" }, "method →", make("br"), "attack ↓"), head)),
      make("tbody", null, body));
    table.style.minWidth = `${8 + 3.4 * methods.length}rem`;
    table.style.maxWidth = `${14 + 9 * methods.length}rem`;
    find("map").replaceChildren(fields.length ? table : make("p", { class: "note" }, "No cell has these settings."));
    fit();
    steer(table, rows);
    find("map-note").textContent = noteOf(shownMeasure());
    drawLegend(fields);
  }

  function noteOf(measure) {
    const unit = measure.suffix ? ` in ${measure.suffix.trim()}` : "";
    const beside = MEASURES.get(measure.beside);
    return `${capital(measure.name)}${unit}: ${measure.about}. ${capital(measure.better)} is better.`
      + (beside ? ` Below it stands ${beside.name}; the colour shows the share of it that is reached.` : "");
  }

  /** Names of methods stand upright where they have no room. */
  function fit() {
    const table = find("heat-map"), rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    if (!table) return;
    const columns = table.rows[0].cells.length - 1;
    table.classList.toggle("upright", (find("map").clientWidth - 11 * rem) / columns < 5.2 * rem);
  }

  const SIDES = { 0: "start", 1: "end" };
  function drawLegend(fields) {
    const measure = shownMeasure();
    const at = (bad) => (fields.some((field) => field.figures[measure.key])
      ? measure.said(measure.at(bad)) : DASH);
    const scale = make("div", { class: "scale", "aria-hidden": "true" },
      Array.from({ length: 11 }, (_, i) => make("i", { class: `s${i}` })),
      [0, 0.5, 1].map((bad) => make("span", { class: SIDES[bad] }, at(bad))),
      ["good", "bad"].map((end, i) => make("em", { class: SIDES[i] }, end)));
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
  /** The field of the same model without a method. */
  const bare = (field) => field.bare ? null : grid.fields.find((other) =>
    other.bare && [DATA, MODEL, RATE, ATTACK].every((i) => other.place[i] === field.place[i])) || null;

  const ofTriggers = new Set(grid.of_triggers);
  /** All but the measures of triggers, which do not depend on the method. */
  const LINES = [...MEASURES.values()].filter((measure) => !ofTriggers.has(measure.key));
  function seedTable(field) {
    const cells = cellsOf(field), before = bare(field);
    const columns = [
      before && ["before", before.figures, ""],
      ["mean", field.figures, "mean"],
      ...(cells.length > 1 ? cells : []).map((cell) => [`seed ${said("seed", cell.seed)}`, cell.figures, ""]),
    ].filter(Boolean);
    if (cells.length === 1) columns[columns.length - 1][0] = `seed ${said("seed", cells[0].seed)}`;
    const box = ({ key, text }, [, figures, kind]) => {
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
        make("tbody", null, LINES.filter(({ key }) => columns.some(([, figures]) => figures[key])).map((line) =>
          make("tr", null, make("th", { scope: "row" }, heading(line)), columns.map((column) => box(line, column)))))));
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
    return [make("h4", null, title), entries.length ? pairs(entries) : make("p", { class: "note" }, "All at their defaults.")];
  }
  function spread(values, text) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return values.length ? (low === high ? text(low) : `${text(low)} ${DASH} ${text(high)}`) : DASH;
  }
  const range = (cells, key, text) =>
    spread(cells.map((cell) => cell.counts[key]).filter((value) => Number.isFinite(value)), text);
  /** How much the trigger changes clips, as far as it was measured. */
  function stealth(cells) {
    const known = named(grid.of_triggers).map((measure) =>
      [measure, cells.map((cell) => measure.value(cell.figures)).filter((value) => value !== null)]);
    const pairsOf = known.filter(([, values]) => values.length).map(([{ name: title, said: text }, values]) => [title, spread(values, text)]);
    return pairsOf.length ? [make("h4", null, "Change by the trigger"), pairs(pairsOf)] : [];
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
      said("data", place[DATA]), said("model", place[MODEL]),
      place[RATE] === null ? null : `poisoning rate ${said("poisoning_rate", place[RATE])}`,
      place[FRACTION] === null ? null : `clean fraction ${said("clean_fraction", place[FRACTION])}`,
    ].filter(Boolean).join(", ");
    const closing = make("button", { type: "button", class: "close", "aria-label": "Close" }, "✕");
    closing.onclick = () => close();
    const failed = cells.filter((cell) => cell.state === "failed");
    const waiting = cells.filter((cell) => cell.state === "pending");
    find("panel").replaceChildren(
      closing,
      make("h3", { id: "panel-title", tabindex: "-1" }, name(attackOf(field)), ", ", name(methodOf(field))),
      make("p", { class: "note" }, where),
      ...failed.map((cell) => make("p", { class: "care" },
        make("strong", null, `Seed ${said("seed", cell.seed)} failed: `), make("bdi", null, cell.error || "no error was recorded"))),
      ...(waiting.length ? [make("p", { class: "care" }, `${plural(waiting.length, "seed")} pending.`)] : []),
      make("h4", null, "Figures"),
      seedTable(field),
      make("p", { class: "note" }, "Rates in %. Below a rate stands its Wilson 95 % interval on the test clips of one seed, and below a mean "
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
      ...settings("Attack", first, "attack_settings"),
      ...(field.bare ? [] : settings("Method", first, "settings")),
      ...cells.filter((cell) => Object.keys(grid.settings[cell.settings.chosen]).length)
        .flatMap((cell) => settings(`Chosen by the method, seed ${said("seed", cell.seed)}`, cell, "chosen")),
      ...settings("Training", first, "training_settings"),
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
  const looks = (method) => {
    if (bareMethods.has(method)) return { class: "shape d-none", d: SHAPES[0] };
    const i = method - [...bareMethods].filter((other) => other < method).length;
    return { class: `shape d${i % 8}`, d: SHAPES[i % SHAPES.length] };
  };
  const points = new Map();
  let drawnWidth = 0;

  function drawPlane() {
    const box = find("plane"), axes = family().plane;
    find("plane-section").hidden = !axes;
    points.clear();
    if (!axes) return;
    const [across, up] = axes.map((key) => MEASURES.get(key));
    drawnWidth = box.parentNode.clientWidth;
    const width = Math.max(300, Math.min(740, drawnWidth || 740));
    const height = Math.round(Math.max(300, 0.62 * width));
    const [left, right, top, bottom] = [44, 12, 24, 46];
    const held = shown().map((field) => [field, look(field).figures])
      .filter(([, figures]) => figures[across.key] && figures[up.key]);
    const lowest = Math.min(1, ...held.map(([, figures]) => up.value(figures)));
    const most = state.zoom ? 0.25 : 1;
    const zoomed = Math.max(Math.floor(20 * lowest) / 20, 0.8);
    const least = Math.min(0.9, state.zoom ? zoomed : Math.floor(10 * lowest) / 10);
    const x = (value) => left + (value / most) * (width - left - right);
    const y = (value) => top + ((1 - value) / (1 - least)) * (height - top - bottom);
    const inside = (figures) => across.value(figures) <= most && up.value(figures) >= least;
    const parts = [];
    const grades = (from, to) => {
      const by = [0.02, 0.05, 0.1, 0.2, 0.25].find((size) => (to - from) / size <= 5.01) || 0.25;
      return Array.from({ length: Math.floor((to - from) / by + 1.01) }, (_, i) => to - i * by);
    };
    for (const at of grades(0, most)) {
      parts.push(draw("line", { class: "line", x1: x(at), x2: x(at), y1: top, y2: height - bottom }),
        draw("text", { x: x(at), y: height - bottom + 17, "text-anchor": "middle" }, String(Math.round(100 * at))));
    }
    for (const at of grades(least, 1)) {
      parts.push(draw("line", { class: "line", x1: left, x2: width - right, y1: y(at), y2: y(at) }),
        draw("text", { x: left - 8, y: y(at) + 4, "text-anchor": "end" }, String(Math.round(100 * at))));
    }
    const radius = 0.3 * (height - top - bottom);
    parts.push(
      draw("path", { class: "corner", d: `M${left} ${top}h${radius}a${radius} ${radius} 0 0 1 ${-radius} ${radius}z` }),
      draw("text", { class: "corner-name", x: left, y: top - 9 }, "good corner"),
      draw("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, axisOf(across)),
      draw("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)` },
        axisOf(up)));
    const drawn = held.filter(([, figures]) => inside(figures))
      .sort((a, b) => across.value(a[1]) - across.value(b[1]) || up.value(b[1]) - up.value(a[1]))
      .map(([field, figures]) => point(field, figures, [across, up], x, y, [left, width - right, top, height - bottom]));
    put(box, { viewBox: `0 0 ${width} ${height}` }, []);
    box.replaceChildren(...parts, ...drawn);
    steer(box, [drawn]);
    mark();
    fade();
    find("tip").hidden = true;
  }

  const axisOf = (measure) => `${measure.name}, %: ${measure.better} is better`;

  function point(field, figures, axes, x, y, [left, right, top, bottom]) {
    const [wide, high] = axes.map((measure) => figures[measure.key]);
    const [across, up] = [x(wide[0]), y(high[0])];
    const clamp = (value, least, greatest) => Math.min(greatest, Math.max(least, value));
    const text = [`${attackOf(field)}, ${methodOf(field)}`,
      ...axes.map((measure) => `${measure.name} ${between(figures[measure.key], measure)}`)].join("\n");
    const cross = wide.length > 1 && high.length > 1
      ? draw("path", { class: "cross", d: `M${clamp(x(wide[1]), left, right) - across} 0`
        + `H${clamp(x(wide[2]), left, right) - across}M0 ${clamp(y(high[1]), top, bottom) - up}`
        + `V${clamp(y(high[2]), top, bottom) - up}` }) : null;
    const made = draw("g", {
      class: "point", transform: `translate(${across.toFixed(1)} ${up.toFixed(1)})`, role: "button",
      "aria-label": text.replaceAll("\n", ", "),
    }, draw("circle", { class: "reach", r: 9 }), cross, draw("path", looks(field.place[METHOD])));
    const tip = find("tip");
    const tell = () => {
      const scale = find("plane").clientWidth / find("plane").viewBox.baseVal.width;
      tip.textContent = text;
      tip.hidden = false;
      const room = tip.parentNode.clientWidth - tip.offsetWidth;
      tip.style.left = `${clamp(scale * across + 14, 0, Math.max(0, room))}px`;
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
      item.classList.toggle("faded", state.method !== null && field.place[METHOD] !== state.method));
  }

  function drawKeys() {
    const used = [...new Set(shown().map((field) => field.place[METHOD]))].sort((a, b) => a - b);
    if (!used.includes(state.method)) state.method = null;
    find("keys").replaceChildren(...used.map((method) => {
      const sample = draw("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, draw("path", looks(method)));
      const item = make("button", { type: "button", "aria-pressed": String(method === state.method) },
        sample, name(said("method", method)));
      item.onclick = () => {
        state.method = state.method === method ? null : method;
        [...find("keys").querySelectorAll("button")].forEach((other) =>
          other.setAttribute("aria-pressed", String(other === item && state.method !== null)));
        fade();
      };
      return make("li", null, item);
    }));
  }

  // Time: the first measure in seconds

  const TIME = [...MEASURES.values()].find((measure) => measure.unit === "s");
  function drawTimes() {
    const taken = new Map(), timed = shown().map((field) => [field, TIME ? TIME.value(look(field).figures) : null]);
    for (const [field, value] of timed) {
      if (value !== null && !field.bare) taken.set(field.place[METHOD], [...(taken.get(field.place[METHOD]) || []), value]);
    }
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const rows = [...taken].map(([method, values]) =>
      [method, mean(values), Math.min(...values), Math.max(...values)]).sort((a, b) => a[1] - b[1]);
    const longest = Math.max(...rows.map((row) => row[3]), 0.01);
    find("times").replaceChildren(...rows.map(([method, middle, low, high]) => {
      const bar = make("i"), line = make("b");
      bar.style.width = `${(100 * middle) / longest}%`;
      line.style.left = `${(100 * low) / longest}%`;
      line.style.width = `${(100 * (high - low)) / longest}%`;
      return make("li", null, name(said("method", method)), make("div", { class: "track", "aria-hidden": "true" }, bar, line),
        make("span", null, TIME.said(middle)),
        make("span", { class: "soft" }, low < high ? `${seconds(low)} ${DASH} ${seconds(high)}` : ""));
    }));
    const training = timed.filter(([field, value]) => field.bare && value !== null).map(([, value]) => value);
    find("time-note").textContent = !rows.length ? "No method was timed." :
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
        link(cell, make("bdi", null, `${said("attack", cell.place[ATTACK])}, ${said("method", cell.place[METHOD])}`)),
        make("span", { class: "soft" }, ` ${where(cell)}`))))));
    find("failures").replaceChildren(...(parts.length ? parts : [make("p", { class: "note" }, "No cell failed.")]));
  }

  // All cells

  const placed = (title, key, at) => ({
    title, key: (cell) => cell.place[at], text: (cell) => said(key, cell.place[at]), number: at === RATE || at === FRACTION,
  });
  /** Names are sorted as words, not in the order of the grid. */
  const worded = (title, key, at) => ({ ...placed(title, key, at), key: (cell) => said(key, cell.place[at]), name: true });
  const figured = (measure) => ({
    title: heading(measure), number: true,
    key: (cell) => measure.value(cell.figures),
    text: (cell) => (cell.figures[measure.key] ? measure.text(measure.value(cell.figures)) : DASH),
  });
  const COLUMNS = [
    worded("Attack", "attack", ATTACK), worded("Method", "method", METHOD),
    ...(grid.families.length > 1 ? [worded("Family", "family", FAMILY)] : []),
    worded("Data", "data", DATA), worded("Model", "model", MODEL),
    placed("Poison", "poisoning_rate", RATE), placed("Clean", "clean_fraction", FRACTION),
    { title: "Seed", number: true, key: (cell) => cell.seed, text: (cell) => said("seed", cell.seed) },
    { title: "State", key: (cell) => cell.state, text: (cell) => cell.state },
    ...LINES.filter(({ value }) => grid.cells.some((cell) => value(cell.figures) !== null)).map(figured),
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
    const tabs = grid.families.map(({ title }, i) => {
      const tab = make("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "results" }, title);
      tab.onclick = () => { state.family = i; refresh(); };
      return tab;
    });
    find("tabs").append(...tabs);
    find("tabs").hidden = tabs.length < 2;
    if (tabs.length < 2) find("results").removeAttribute("role");
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
    [...find("tabs").children].forEach((tab, i) => tab.setAttribute("aria-selected", String(i === state.family)));
    steer(find("tabs"), [[...find("tabs").children]], state.family);
    find("results").setAttribute("aria-labelledby", `tab-${state.family}`);
    const measures = switchable(state.family);
    if (!measures.some(({ key }) => key === state.show)) state.show = measures[0].key;
    find("measures").replaceChildren(find("measures").firstElementChild, ...measures.map((measure) => {
      const input = make("input", { type: "radio", name: "show", value: measure.key, id: `show-${measure.key}` });
      input.checked = measure.key === state.show;
      input.onchange = () => { state.show = measure.key; drawMap(); remember(); };
      return make("label", null, input, make("span", null, capital(measure.name)));
    }));
  }

  function refresh() {
    if (state.open && !isShown(state.open) && !(state.open.bare && isChosen(state.open))) {
      const same = shown().find((field) => [ATTACK, METHOD].every((at) => field.place[at] === state.open.place[at]));
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
    if (state.family !== usual.family) words.set("family", family().name);
    if (state.show !== switchable(state.family)[0].key) words.set("show", state.show);
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
    const tab = grid.families.findIndex(({ name: own }) => own === words.get("family"));
    if (tab >= 0) state.family = tab;
    else if (state.open && familyOf(state.open) >= 0) state.family = familyOf(state.open);
    if (switchable(state.family).some(({ key }) => key === words.get("show"))) state.show = words.get("show");
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
