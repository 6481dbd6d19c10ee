/* The portal's front page: what is typed and chosen, what is found, and the address that tells both.

   All text from outside becomes text nodes; nothing is ever parsed as HTML. */

(() => {
  "use strict";

  const { Vocabulary, dayText, fold, parse } = window.NexusQuery;

  const PER_PAGE = 50;
  const MOST_ITEMS = 40;
  const SHOWN_NAMES = 8;
  const MOST_NAMES = 200;
  const LEAST_BARS = 30;
  const MOST_BARS = 60;
  const MOST_SPARKLINES = 12;
  const TYPING = 1500; // ms within which more typing is the same step back
  const FACETS = {
    instrument: "Instrument",
    person: "Person",
    date: "Date",
    dataset_type: "Dataset type",
    data_type: "Data type",
    element: "Element",
    sample: "Sample",
    project: "Project",
    format: "Format",
    extension: "File type",
  };
  const SETTLED = new Set(["here", "failed", "outdated"]); // states of a shard that waits for nothing
  const EXAMPLES = [
    ["grain boundary", "words in titles, motivations, people, samples, file names"],
    ['"grain boundary"', "words in this order"],
    ["80 to 200 kV", "any voltage in this range"],
    ["pixel < 1 nm", "a quantity, in any unit"],
    ["magnification > 50k", "a number without unit"],
    ["dwell 10 us", "a value, within rounding"],
    ["Fe Cr", "elements of samples"],
    ["last month", "also 2026, march 2026, since 2026-03-01"],
  ];
  const SVG = "http://www.w3.org/2000/svg";

  const $ = (id) => document.getElementById(id);
  const start = JSON.parse($("start").textContent);
  const vocabulary = new Vocabulary(start);
  const index = new window.NexusIndex(start, seldom(render, 150));
  const number = new Intl.NumberFormat("en");
  const count = (many, one, more = `${one}s`) => `${number.format(many)} ${many === 1 ? one : more}`;

  let state = { text: "", chosen: new Map(), sort: "newest", page: 1 };
  let typedAt = 0;
  let results = new Uint32Array(0);
  const opened = new Set();
  const looked = new Map();

  /* ---- Elements ---- */

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
      else if (name in made && name !== "list") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }

  /* A call for any amount of news: soon, and then again only after as long a wait as leaves time for other things. */
  function seldom(call, wait) {
    let isDue = false;
    let done = 0;
    return () => {
      if (isDue) return;
      isDue = true;
      setTimeout(
        () => {
          isDue = false;
          call();
          done = performance.now();
        },
        Math.max(0, done + wait - performance.now()),
      );
    };
  }

  /* ---- State and address ---- */

  function readAddress() {
    const told = new URLSearchParams(location.hash.slice(1));
    const chosen = new Map();
    for (const facet of Object.keys(FACETS)) if (told.has(facet)) chosen.set(facet, new Set(told.getAll(facet)));
    const sort = told.get("sort");
    return {
      text: told.get("q") ?? "",
      chosen,
      sort: [...$("sort").options].some(({ value }) => value === sort) ? sort : "newest",
      page: Math.max(1, Number.parseInt(told.get("page"), 10) || 1),
    };
  }

  function address() {
    const told = new URLSearchParams();
    if (state.text.trim()) told.set("q", state.text);
    for (const [facet, names] of state.chosen) for (const name of names) told.append(facet, name);
    if (state.sort !== "newest") told.set("sort", state.sort);
    if (state.page > 1) told.set("page", state.page);
    return `#${told}`;
  }

  /* Another state: a step that the back button undoes, unless it goes on with what is being typed. */
  function go(change, isTyping = false) {
    const goesOn = isTyping && Date.now() - typedAt < TYPING;
    typedAt = isTyping ? Date.now() : 0;
    state = { ...state, page: 1, ...change };
    if (address() !== (location.hash || "#")) history[goesOn ? "replaceState" : "pushState"](null, "", address());
    if (!isTyping) $("query").value = state.text;
    render();
  }

  function goBack() {
    state = readAddress();
    typedAt = 0;
    $("query").value = state.text;
    $("sort").value = state.sort;
    render();
  }

  function choose(facet, name, isChosen) {
    const chosen = new Map(state.chosen);
    const names = new Set(chosen.get(facet));
    if (isChosen) names.add(name);
    else names.delete(name);
    if (facet === "date" && isChosen && name.length > 4) names.delete(name.slice(0, 4));
    if (names.size) chosen.set(facet, names);
    else chosen.delete(facet);
    go({ chosen });
  }

  /* ---- Searching ---- */

  function today() {
    const now = Math.floor(Date.now() / 86_400_000 - new Date().getTimezoneOffset() / 1440);
    const newest =
      index.isHere("facets") || index.months[0]?.state.facets === "here" ? index.order("newest")[0] : undefined;
    return newest === undefined ? now : Math.min(now, Math.floor((index.start[newest] + index.offset[newest]) / 1440));
  }

  /* Everything that a session must meet, each with what takes it away again. */
  function criteria() {
    const items = parse(state.text, vocabulary, today()).slice(0, MOST_ITEMS);
    const typed = items.map((item) => ({
      ...criterion(item),
      item,
      label: item.label ?? `“${state.text.slice(item.from, item.to).replace(/["“”„]/g, "")}”`,
      remove: () => go({ text: without(item) }),
    }));
    const chosen = [...state.chosen].map(([facet, names]) => ({
      ...index.named(facet, names),
      facet,
      label: `${FACETS[facet]}: ${[...names].join(" or ")}`,
      remove: () => go({ chosen: new Map([...state.chosen].filter(([other]) => other !== facet)) }),
    }));
    return [...typed, ...chosen];
  }

  function criterion(item) {
    switch (item.kind) {
      case "words":
        return index.words(item.term);
      case "number":
        return index.number(item);
      case "date":
        return index.date(item);
      default:
        return { id: "", part: "facets", mark: ({ base, sessions }, mask) => mask.fill(1, base, base + sessions) };
    }
  }

  const without = ({ from, to }) => `${state.text.slice(0, from).trimEnd()} ${state.text.slice(to).trimStart()}`.trim();

  /* Parts of the index that the present search needs. */
  function needs(wanted) {
    const parts = new Set(["facets", ...wanted.map(({ part }) => part)]);
    if (state.sort === "title") parts.add("rows");
    return parts;
  }

  /* Have what is needed loaded: first what the first page shows; of the rest, what dates that were typed leave. */
  function load(parts, months) {
    const newest = index.newest(PER_PAGE);
    index.want("facets", newest);
    index.want("rows", newest);
    if (index.isPending("facets", newest) || index.isPending("rows", newest)) return;
    index.want("facets");
    for (const part of parts) index.want(part, months);
    if ([...document.querySelectorAll("#filters details[open]")].some(({ dataset }) => dataset.part === "more"))
      index.want("more");
  }

  function render() {
    const wanted = criteria();
    const parts = needs(wanted);
    const months = index.where(wanted.filter(({ item }) => item?.kind === "date"));
    load(parts, months);
    const found = index.filter(wanted);
    results = index.sorted(
      found,
      state.sort,
      wanted.filter(({ item }) => item?.kind === "words"),
    );
    const pages = Math.max(1, Math.ceil(results.length / PER_PAGE));
    const page = Math.min(state.page, pages);
    const shown = results.subarray((page - 1) * PER_PAGE, page * PER_PAGE);
    index.want("rows", [...new Set(Array.from(shown, (each) => index.monthOf(each)))], true);

    keepingFocus(() => {
      renderChips(wanted);
      renderFacets(wanted, found);
      renderSparklines(wanted, found);
      renderHits(shown, wanted);
    });
    renderCount(parts, months, wanted, found);
    renderTrouble(parts);
    $("pager").hidden = pages < 2;
    $("place").textContent = `Page ${number.format(page)} of ${number.format(pages)}`;
    $("previous").disabled = page === 1;
    $("next").disabled = page === pages;
    $("sort").value = state.sort;
  }

  /* Redrawing moves and replaces elements; the keyboard's place survives by its id. */
  function keepingFocus(draw) {
    const { id } = document.activeElement ?? {};
    draw();
    if (id && document.activeElement?.id !== id) document.getElementById(id)?.focus({ preventScroll: true });
  }

  /* ---- What was understood ---- */

  function renderChips(wanted) {
    const chips = wanted
      .filter(({ item, facet }) => facet || item.kind !== "words")
      .map(({ label, item, remove }, n) =>
        element(
          "li",
          { className: item?.kind === "unclear" ? "chip unclear" : "chip" },
          element("span", {}, label),
          element(
            "button",
            {
              type: "button",
              id: `chip-${n}`,
              "aria-label": `Remove ${label}`,
              title: "Remove",
              on: {
                click: () => {
                  remove();
                  $("query").focus();
                },
              },
            },
            "×",
          ),
        ),
      );
    $("chips").replaceChildren(...chips);
    $("chips").hidden = chips.length === 0;
  }

  /* ---- Facets ---- */

  function renderFacets(wanted, found) {
    const chosen = [...state.chosen.values()].reduce((sum, names) => sum + names.size, 0);
    $("filters-toggle").textContent = chosen ? `Filters (${chosen} chosen)` : "Filters";
    for (const facet of Object.keys(FACETS)) {
      const counts = index.count(
        facet,
        found,
        wanted.findIndex((criterion) => criterion.facet === facet),
      );
      renderFacet(facet, namesToShow(facet, counts));
    }
  }

  /* Names of a facet with their counts: chosen ones first, then the commonest; dates by time. */
  function namesToShow(facet, counts) {
    const { names } = index.facets.get(facet);
    const chosen = state.chosen.get(facet) ?? new Set();
    const all = names.map((name, n) => ({ name, count: counts[n], isChosen: chosen.has(name) }));
    for (const name of chosen) if (!names.includes(name)) all.push({ name, count: 0, isChosen: true });
    const there = all.filter(({ count: many, isChosen }) => many > 0 || isChosen);
    if (facet !== "date")
      return there.sort((a, b) => b.isChosen - a.isChosen || b.count - a.count || (a.name < b.name ? -1 : 1));
    const years = there.filter(({ name }) => name.length === 4);
    const isOpen = (year) => years.length === 1 || [...chosen].some((name) => name.startsWith(year));
    return there
      .filter(({ name }) => name.length === 4 || isOpen(name.slice(0, 4)))
      .sort(
        (a, b) =>
          (a.name.slice(0, 4) === b.name.slice(0, 4) ? a.name.length - b.name.length : 0) || (a.name < b.name ? 1 : -1),
      );
  }

  function renderFacet(facet, names) {
    const box = $(`facet-${facet}`) ?? newFacet(facet);
    box.hidden = names.length === 0 && index.isHere(box.dataset.part);
    const isAll = opened.has(facet);
    const needle = isAll ? fold(looked.get(facet) ?? "") : "";
    const fitting = needle ? names.filter(({ name, isChosen }) => isChosen || fold(name).includes(needle)) : names;
    const few = names.length <= SHOWN_NAMES + 1 ? names.length : SHOWN_NAMES;
    const shown = fitting.slice(0, isAll ? MOST_NAMES : few);
    box.querySelector("ul").replaceChildren(...shown.map((each, n) => choice(facet, each, n)));
    const search = box.querySelector("input[type=search]");
    search.hidden = !isAll;
    const more = box.querySelector("button");
    more.hidden = names.length <= few;
    more.textContent = isAll ? "Fewer" : `All ${number.format(names.length)}`;
    more.setAttribute("aria-expanded", isAll);
    const left = box.querySelector("p");
    left.hidden = fitting.length <= shown.length || !isAll;
    left.textContent = `${number.format(fitting.length - shown.length)} more: type to find them`;
  }

  function newFacet(facet) {
    const { part } = index.facets.get(facet);
    const box = element(
      "details",
      {
        id: `facet-${facet}`,
        "data-part": part,
        on: { toggle: render },
        open: part === "facets" || state.chosen.has(facet),
      },
      element("summary", {}, FACETS[facet]),
      element("input", {
        type: "search",
        id: `look-${facet}`,
        hidden: true,
        placeholder: "Find …",
        "aria-label": `Find in ${FACETS[facet]}`,
        on: {
          input: (event) => {
            looked.set(facet, event.target.value);
            render();
          },
        },
      }),
      element("ul"),
      element("p", { className: "muted", hidden: true }),
      element("button", {
        type: "button",
        id: `more-${facet}`,
        className: "more",
        hidden: true,
        on: {
          click: () => {
            if (!opened.delete(facet)) opened.add(facet);
            looked.delete(facet);
            $(`look-${facet}`).value = "";
            render();
            if (opened.has(facet)) $(`look-${facet}`).focus();
          },
        },
      }),
    );
    $("filters").append(box);
    return box;
  }

  function choice(facet, { name, count: many, isChosen }) {
    const isMonth = facet === "date" && name.length > 4;
    const shown = isMonth ? monthText(name) : name;
    return element(
      "li",
      { className: isMonth ? "month" : "" },
      element(
        "label",
        { title: name },
        element("input", {
          type: "checkbox",
          id: `choice-${facet}-${index.facets.get(facet).numbers.get(name) ?? name}`,
          checked: isChosen,
          on: {
            change: (event) => choose(facet, name, event.target.checked),
          },
        }),
        element("span", { className: "name" }, shown),
        element("span", { className: "number" }, number.format(many)),
      ),
    );
  }

  const monthText = (name) => new Date(`${name}-01T00:00Z`).toLocaleString("en", { month: "long", timeZone: "UTC" });

  /* ---- Activity of the instruments ---- */

  function renderSparklines(wanted, found) {
    const own = wanted.findIndex(({ facet }) => facet === "instrument");
    const { names } = index.facets.get("instrument");
    $("activity").hidden = names.length === 0;
    if (!names.length) return;
    const { bars, first, last, width, days } = activity(found, own, names.length);
    const totals = bars.map((each) => each.reduce((sum, n) => sum + n, 0));
    const all = index.count("instrument", { fails: new Uint8Array(index.total), culprit: [] }, -1);
    const shown = names
      .map((name, n) => ({ name, n }))
      .sort((a, b) => all[b.n] - all[a.n] || (a.name < b.name ? -1 : 1))
      .slice(0, MOST_SPARKLINES);
    $("sparklines").replaceChildren(...shown.map(({ name, n }) => sparkline(name, n, bars[n], totals[n], width)));
    const more = names.length > shown.length ? ` The ${shown.length} busiest of ${names.length} instruments.` : "";
    const each = days === 1 ? "a day" : `${days} days`;
    $("sparkline-axis").textContent = `${dayText(first)} to ${dayText(last)}, a bar for ${each}.${more}`;
  }

  /* Sessions of each instrument over the time that the whole index covers, in bars of as many days as are needed. */
  function activity({ fails, culprit }, own, instruments) {
    const order = index.order("newest");
    const day = (n) => Math.floor((index.start[n] + index.offset[n]) / 1440);
    const last = day(order[0]);
    const first = Math.min(day(order[order.length - 1]), last - LEAST_BARS + 1);
    const days = Math.ceil((last - first + 1) / MOST_BARS);
    const width = Math.ceil((last - first + 1) / days);
    const bars = Array.from({ length: instruments }, () => new Uint32Array(width));
    for (const { base, sessions, parts } of index.those("facets", "here")) {
      const { starts, values } = parts.instrument;
      for (let n = 0; n < sessions; n += 1) {
        if (fails[base + n] > 1 || (fails[base + n] === 1 && culprit[base + n] !== own)) continue;
        const bar = Math.min(width - 1, Math.max(0, Math.floor((day(base + n) - first) / days)));
        for (let at = starts[n]; at < starts[n + 1]; at += 1) bars[values[at]][bar] += 1;
      }
    }
    return { bars, first, last, width, days };
  }

  function sparkline(name, n, bars, total, width) {
    const isChosen = state.chosen.get("instrument")?.has(name) ?? false;
    const highest = Math.max(1, ...bars);
    const path = Array.from(bars, (many, at) =>
      many ? `M${at + 0.1},20h.8v${(-Math.max(1, (20 * many) / highest)).toFixed(2)}h-.8z` : "",
    ).join("");
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("viewBox", `0 0 ${width} 20`);
    picture.setAttribute("preserveAspectRatio", "none");
    picture.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS(SVG, "path");
    shape.setAttribute("d", path);
    picture.append(shape);
    return element(
      "button",
      {
        type: "button",
        id: `sparkline-${n}`,
        className: "instrument",
        title: name,
        "aria-pressed": isChosen,
        "aria-label": `${name}: ${count(total, "session")}`,
        on: { click: () => choose("instrument", name, !isChosen) },
      },
      element("span", { className: "name" }, name),
      element("span", { className: "number" }, number.format(total)),
      picture,
    );
  }

  /* ---- The list ---- */

  function renderHits(shown, wanted) {
    const terms = wanted.filter(({ item }) => item?.kind === "words").map(({ item }) => item.term);
    const fields = wanted.filter(({ item }) => item?.kind === "number").flatMap(({ item }) => item.fields);
    $("hits").replaceChildren(...Array.from(shown, (each) => hit(each, terms, fields)));
  }

  function hit(each, terms, fields) {
    const row = index.row(each);
    if (!row)
      return element(
        "li",
        { className: "hit", "aria-busy": "true" },
        element("p", { className: "muted" }, "Loading …"),
      );
    const page = `${start.pages}/${row.key.slice(0, 4)}/${row.key}.html`;
    const people = index.names("person", each).join(", ");
    const { samples } = row;
    const elements = index.names("element", each);
    return element(
      "li",
      { className: "hit" },
      thumbnail(row, page),
      element(
        "div",
        { className: "about" },
        element(
          "h3",
          {},
          element("a", { href: page, id: `hit-${each}`, title: row.title }, ...marked(row.title, terms)),
        ),
        element(
          "p",
          { className: "facts" },
          ...spaced([
            element("span", {}, ...marked(index.names("instrument", each).join(", "), terms)),
            people && element("span", {}, ...marked(people, terms)),
            ...time(each),
            row.project && element("span", {}, ...marked(row.project, terms)),
          ]),
        ),
        row.motivation &&
          element("p", { className: "motivation", title: row.motivation }, ...marked(row.motivation, terms)),
        samples.length || elements.length
          ? element(
              "p",
              { className: "facts" },
              ...spaced([
                samples.length &&
                  element("span", {}, samples.length === 1 ? "Sample " : "Samples ", ...marked(few(samples), terms)),
                elements.length && element("span", { className: "elements" }, few(elements, 12)),
              ]),
            )
          : "",
        measured(each, fields),
      ),
      element("p", { className: "tags" }, ...tags(each, row)),
    );
  }

  const few = (names, most = 4) =>
    names.length > most + 1 ? `${names.slice(0, most).join(", ")} and ${names.length - most} more` : names.join(", ");

  const dot = () => element("span", { className: "dot", "aria-hidden": "true" }, " · ");
  const spaced = (parts) => parts.filter(Boolean).flatMap((part, n) => (n ? [dot(), part] : [part]));

  function thumbnail({ thumbnail: preview, title }, page) {
    const picture = preview
      ? element("img", {
          src: start.datasets + preview,
          alt: "",
          loading: "lazy",
          decoding: "async",
          on: {
            error: (event) => event.target.replaceWith(element("span", { className: "none" }, "no preview")),
          },
        })
      : element("span", { className: "none" }, "no preview");
    return element("a", { className: "thumbnail", href: page, tabIndex: -1, "aria-hidden": "true", title }, picture);
  }

  function time(each) {
    const begins = new Date((index.start[each] + index.offset[each]) * 60_000).toISOString();
    const minutes = index.length[each];
    const hours =
      minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
    return [
      element("time", { dateTime: begins.slice(0, 16) }, `${begins.slice(0, 10)} ${begins.slice(11, 16)}`),
      element("span", {}, hours),
    ];
  }

  function tags(each, row) {
    const types = index
      .names("dataset_type", each)
      .map((type, n) =>
        element("span", { className: "nx-tag", "data-type": type }, `${number.format(row.types[n] ?? 0)} ${type}`),
      );
    const told = [
      index.datasets[each] === 0 && "no datasets",
      row.activities > 1 && count(row.activities, "activity", "activities"),
    ]
      .filter(Boolean)
      .map((text) => element("span", { className: "nx-tag" }, text));
    const doubts = [
      row.refused && `${number.format(row.refused)} refused`,
      row.warnings && count(row.warnings, "doubtful value"),
    ]
      .filter(Boolean)
      .map((text) => element("span", { className: "nx-tag warn" }, text));
    return [...types, ...told, ...doubts];
  }

  /* The values of the fields that were asked for. */
  function measured(each, fields) {
    const told = fields
      .map((field) => {
        const { name } = field;
        const spans = index.spans(name, each).filter(([low, high]) => window.NexusIndex.touches(field, low, high));
        const { display, unit } = vocabulary.byName.get(name);
        const values = spans.map(([low, high]) =>
          low === high ? shownNumber(low) : `${shownNumber(low)}–${shownNumber(high)}`,
        );
        return values.length ? `${display} ${values.join(", ")}${unit.symbol && ` ${unit.symbol}`}` : "";
      })
      .filter(Boolean);
    return told.length ? element("p", { className: "facts measured" }, few([...new Set(told)], 4)) : "";
  }

  const shownNumber = (value) => {
    const size = Math.abs(value);
    return size && (size < 1e-3 || size >= 1e7)
      ? value.toExponential(2).replace("e+", "e")
      : String(Number(value.toPrecision(4)));
  };

  /* Text with the terms marked in it, where folding leaves each letter in its place. */
  function marked(text, terms) {
    const plain = fold(text);
    const known = terms.filter((term) => term.length > 1);
    if (plain.length !== text.length || !known.length) return [text];
    const spans = known
      .flatMap((term) => {
        const at = plain.indexOf(term);
        return at < 0 ? [] : [[at, at + term.length]];
      })
      .sort((a, b) => a[0] - b[0]);
    const made = [];
    let done = 0;
    for (const [from, to] of spans) {
      if (from < done) continue;
      made.push(text.slice(done, from), element("mark", {}, text.slice(from, to)));
      done = to;
    }
    return [...made, text.slice(done)];
  }

  /* ---- Words on how it stands ---- */

  const announce = slowly((text) => {
    if ($("live").textContent !== text) $("live").textContent = text;
  }, 600);

  function slowly(call, wait) {
    let timer = 0;
    return (...given) => {
      clearTimeout(timer);
      timer = setTimeout(call, wait, ...given);
    };
  }

  function renderCount(parts, months, wanted, found) {
    const settled = (month) => [...parts].every((part) => SETTLED.has(month.state[part]));
    const open = months.filter((month) => !settled(month));
    const isWhole = wanted.length === 0 && index.isHere("facets");
    let text = isWhole
      ? count(results.length, "session")
      : `${number.format(results.length)} of ${count(index.total, "session")}`;
    const unread = open.reduce((sum, { sessions }) => sum + sessions, 0);
    if (unread) text += ` so far; ${number.format(index.total - unread)} searched …`;
    $("count").textContent = text;
    $("hits").setAttribute("aria-busy", open.length > 0);
    if (!open.length) announce(text);
    renderNothing(parts, open.length > 0, wanted, found);
  }

  function renderNothing(parts, isPending, wanted, { fails, culprit }) {
    const box = $("nothing");
    box.hidden = isPending || results.length > 0;
    if (box.hidden) return;
    for (const part of parts) index.want(part); // the hints are of all months
    if (index.total === 0) {
      box.replaceChildren(
        element("h3", {}, "No session is in this portal yet"),
        element("p", {}, "A session appears here as soon as its record is built. This page need only be loaded again."),
      );
      return;
    }
    const freed = new Uint32Array(wanted.length);
    for (let n = 0; n < index.total; n += 1) if (fails[n] === 1) freed[culprit[n]] += 1;
    const ways = wanted
      .map((criterion, n) => ({ ...criterion, many: freed[n] }))
      .filter(({ many }) => many > 0)
      .sort((a, b) => b.many - a.many);
    const hints = ways.map(({ label, many, remove }) =>
      element(
        "li",
        {},
        element("button", { type: "button", on: { click: remove } }, `Without ${label}`),
        ` ${count(many, "session")}`,
      ),
    );
    const clear = element(
      "li",
      {},
      element("button", { type: "button", on: { click: () => go({ text: "", chosen: new Map() }) } }, "Begin anew"),
      ` ${count(index.total, "session")}`,
    );
    box.replaceChildren(
      element("h3", {}, "No session meets all of this"),
      element(
        "p",
        {},
        hints.length ? "It is found without one of these:" : "No single part of the search is to blame.",
      ),
      element("ul", {}, ...hints, clear),
    );
  }

  function renderTrouble(parts) {
    const needed = [...new Set([...parts, "rows"])];
    const inState = (wanted) => index.months.filter((month) => needed.some((part) => month.state[part] === wanted));
    const failed = inState("failed");
    const outdated = inState("outdated");
    const told = [];
    if (failed.length) {
      const many = failed.reduce((sum, { sessions }) => sum + sessions, 0);
      told.push(
        element(
          "p",
          {},
          `Part of the index cannot be read: ${count(many, "session")} of ${few(failed.map(({ name }) => name))} `,
          "may be missing here. ",
          element("button", { type: "button", id: "retry", on: { click: () => index.retry() } }, "Try again"),
        ),
      );
    }
    if (outdated.length) {
      told.push(
        element(
          "p",
          {},
          "The index has changed since this page was loaded. ",
          element("button", { type: "button", id: "reload", on: { click: () => location.reload() } }, "Load it again"),
        ),
      );
    }
    const text = told.map((each) => each.textContent).join();
    if ($("trouble").dataset.told === text) return;
    $("trouble").dataset.told = text;
    $("trouble").replaceChildren(...told);
  }

  /* ---- Keys and events ---- */

  function onKey(event) {
    const isTyping = event.target.closest?.("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !isTyping) {
      event.preventDefault();
      $("query").focus();
      $("query").select();
    }
    const links = [...document.querySelectorAll("#hits h3 a")];
    const at = links.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && (at >= 0 || (event.target === $("query") && step === 1))) {
      event.preventDefault();
      if (at + step < 0) $("query").focus();
      else links[Math.min(links.length - 1, at + step)]?.focus();
    }
    if (event.key === "Escape" && at >= 0) $("query").focus();
  }

  function turn(by) {
    go({ page: state.page + by });
    $("results").focus({ preventScroll: true });
    $("results").scrollIntoView();
  }

  function begin() {
    $("portal").hidden = false;
    $("examples").append(
      element(
        "dl",
        {},
        ...EXAMPLES.map(([text, words]) =>
          element(
            "div",
            {},
            element("dt", {}, element("button", { type: "button", on: { click: () => go({ text }) } }, text)),
            element("dd", {}, words),
          ),
        ),
      ),
      element("p", {}, "Words and conditions are all to be met. Of several names chosen in one filter, one suffices."),
    );
    $("query").addEventListener("input", (event) => go({ text: event.target.value }, true));
    $("query").addEventListener("focus", () => index.want("words"), { once: true });
    $("sort").addEventListener("change", (event) => go({ sort: event.target.value }));
    $("previous").addEventListener("click", () => turn(-1));
    $("next").addEventListener("click", () => turn(1));
    $("filters-toggle").addEventListener("click", () => {
      const isOpen = $("filters").classList.toggle("open");
      $("filters-toggle").setAttribute("aria-expanded", isOpen);
    });
    $("skip").addEventListener("click", (event) => {
      event.preventDefault(); // the address tells the search
      $("results").focus();
    });
    document.addEventListener("keydown", onKey);
    window.addEventListener("popstate", goBack);
    goBack();
  }

  begin();
})();
