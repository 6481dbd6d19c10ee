/* What a session's page does beyond showing: gallery, filter, dialogs, downloads.

   The page reads well without it. Everything it shows it reads from the page and writes as text, never as HTML. */
"use strict";

(() => {
  const STRIP = 40; // thumbnails at a time
  const DELAY = 90; // milliseconds between the last keystroke and the filtering
  const MOST_BYTES = 2 ** 31; // of an archive: it is made in the browser's memory
  const MOST_FILES = 60_000; // in an archive: beyond 65535 its format changes
  const FORBIDDEN = /[\u0000-\u001f\u007f<>:"|?*\\]/g; // in names of files on Windows

  /** An element with properties, attributes (names with a dash, "for") and children. */
  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.includes("-") || name === "for") element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children);
    return element;
  }

  const text = (root, selector) => root.querySelector(selector)?.textContent.trim() ?? "";
  const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

  function decoded(location) {
    try {
      return decodeURIComponent(location);
    } catch {
      return location; // its bytes are no UTF-8
    }
  }

  /* Reading the page */

  /** Lines of a dataset, or rows of an activity's setup, as {name, value, unit, remark}. */
  function valuesOf(details) {
    if (!details) return [];
    const lines = details.querySelector("pre")?.textContent.split("\n").filter(Boolean).map((line) => line.split("\t"));
    const rows = lines ?? Array.from(details.querySelectorAll("tbody tr"), (row) => Array.from(row.cells, (cell) => cell.textContent));
    return rows.map(([name, value = "", unit = "", remark = ""]) => ({ name, value, unit, remark }));
  }

  /** A row of a listing as a dataset. */
  function datasetOf(row) {
    const cells = row.cells;
    const values = row.querySelector(".nx-values");
    return {
      row,
      name: text(row, ".nx-name"),
      time: cells[1].textContent.trim(),
      moment: row.querySelector("time")?.getAttribute("datetime") ?? "",
      type: cells[2].textContent.trim(),
      kind: cells[3].textContent.trim(),
      role: cells[4].textContent.trim(),
      format: cells[5].textContent.trim(),
      description: text(row, "th small:not(.nx-doubt)"),
      location: values.dataset.location,
      raw: row.querySelector("a.nx-name")?.href ?? "",
      preview: row.querySelector(".nx-preview")?.href ?? "",
      sidecar: row.querySelector(".nx-sidecar")?.href ?? "",
      values: () => valuesOf(values),
      setup: () => valuesOf(row.closest(".nx-activity").querySelector(".nx-setup")),
    };
  }

  /* Gallery */

  class Gallery {
    constructor(section, figure) {
      this.section = section;
      this.figure = figure;
      this.items = [];
      this.at = 0;
      this.page = -1;
      this.link = figure.querySelector("a");
      this.image = figure.querySelector("img");
      this.caption = figure.querySelector("figcaption");
      this.slider = make("input", { type: "range", min: 1, value: 1, "aria-label": "Preview" });
      this.position = make("output");
      this.strip = make("div", { className: "nx-strip", role: "group", "aria-label": "Thumbnails" });
      this.steps = make(
        "div",
        { className: "nx-steps" },
        this.button("◀", "Previous preview", -1),
        this.slider,
        this.position,
        this.button("▶", "Next preview", 1),
      );
      section.append(this.steps, this.strip);
      this.slider.addEventListener("input", () => this.show(this.slider.valueAsNumber - 1));
      this.strip.addEventListener("click", (event) => {
        const thumbnail = event.target.closest("button");
        if (thumbnail) this.show(Number(thumbnail.value));
      });
      document.addEventListener("keydown", (event) => this.key(event));
      this.swipes();
    }

    button(sign, label, step) {
      const button = make("button", { type: "button", title: label, "aria-label": label }, sign);
      button.addEventListener("click", () => this.show(this.at + step));
      return button;
    }

    /** Take other datasets; those without a preview are left aside. */
    fill(datasets) {
      const shown = this.items[this.at];
      this.items = datasets.filter((dataset) => dataset.preview);
      this.page = -1;
      this.slider.max = Math.max(this.items.length, 1);
      for (const part of [this.figure, this.strip]) part.hidden = !this.items.length;
      this.steps.hidden = this.items.length < 2;
      this.show(Math.max(this.items.indexOf(shown), 0));
    }

    show(wanted) {
      if (!this.items.length) return;
      const count = this.items.length;
      this.at = ((wanted % count) + count) % count;
      const dataset = this.items[this.at];
      this.link.href = dataset.preview;
      this.image.src = dataset.preview;
      this.image.alt = `Preview of ${dataset.name}`;
      this.caption.replaceChildren(
        make("strong", { dir: "auto" }, dataset.name),
        make("span", { className: "nx-tag", "data-type": dataset.row.querySelector(".nx-tag").dataset.type }, dataset.type),
        make("span", {}, dataset.time),
        make("a", { href: `#${dataset.row.id}` }, "In the listing"),
      );
      this.slider.value = this.at + 1;
      this.position.value = `${this.at + 1} of ${count}`;
      this.turn();
      new Image().src = this.items[(this.at + 1) % count].preview;
    }

    /** Show the thumbnails around the present one. */
    turn() {
      const page = Math.floor(this.at / STRIP);
      if (page !== this.page) {
        this.page = page;
        const from = page * STRIP;
        const thumbnails = this.items.slice(from, from + STRIP).map((dataset, n) => {
          const image = make("img", { loading: "lazy", decoding: "async", alt: "", src: dataset.preview });
          return make("button", { type: "button", value: from + n, title: dataset.name, "aria-label": dataset.name }, image);
        });
        this.strip.replaceChildren(...thumbnails);
      }
      this.strip.querySelector('[aria-current="true"]')?.removeAttribute("aria-current");
      const current = this.strip.children[this.at % STRIP];
      current.setAttribute("aria-current", "true");
      this.strip.scrollLeft = current.offsetLeft - this.strip.offsetLeft - (this.strip.clientWidth - current.offsetWidth) / 2;
    }

    /** Arrow keys, within the gallery and where nothing has the focus. */
    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || event.target === this.slider) return;
      if (event.target !== document.body && !this.section.contains(event.target)) return;
      const places = { ArrowLeft: this.at - 1, ArrowRight: this.at + 1, Home: 0, End: this.items.length - 1 };
      const inside = event.target !== document.body;
      if (!(event.key in places) || (!inside && !event.key.startsWith("Arrow"))) return;
      event.preventDefault();
      const wasThumbnail = this.strip.contains(event.target);
      this.show(places[event.key]);
      if (wasThumbnail) this.strip.children[this.at % STRIP].focus();
    }

    swipes() {
      let from = null;
      this.figure.addEventListener("touchstart", (event) => (from = event.touches[0]), { passive: true });
      this.figure.addEventListener("touchend", (event) => {
        const to = event.changedTouches[0];
        const x = to.clientX - from.clientX;
        if (Math.abs(x) > 40 && Math.abs(x) > 2 * Math.abs(to.clientY - from.clientY)) this.show(this.at - Math.sign(x));
      });
    }
  }

  /* Filter */

  class Filter {
    constructor(datasets, activities, changed) {
      this.datasets = datasets;
      this.activities = activities;
      this.changed = changed;
      this.texts = null;
      this.field = make("input", { type: "search", placeholder: "Name, type, metadata …", id: "nx-filter" });
      this.count = make("output", { "aria-live": "polite" });
      this.bar = make("search", { className: "nx-filter" }, make("label", { for: "nx-filter" }, "Filter datasets"), this.field, this.count);
      let waiting = 0;
      this.field.addEventListener("input", () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => this.apply(), DELAY);
      });
      this.tell(datasets.length);
    }

    /** Texts to search, read when they are first needed: those of each dataset, and of its activity's setup. */
    read() {
      const setups = new Map(this.activities.map((activity) => [activity, text(activity, ".nx-setup").toLowerCase()]));
      this.texts = this.datasets.map(({ row, location }) => ({
        own: `${row.textContent} ${decoded(location)}`.toLowerCase(),
        setup: setups.get(row.closest(".nx-activity")),
      }));
    }

    apply() {
      if (!this.texts) this.read();
      const words = this.field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const shown = this.datasets.filter(({ row }, n) => {
        const { own, setup } = this.texts[n];
        const fits = words.every((word) => own.includes(word) || setup.includes(word));
        if (row.hidden === fits) row.hidden = !fits;
        return fits;
      });
      for (const table of document.querySelectorAll(".nx-datasets")) table.hidden = !table.querySelector("tbody tr:not([hidden])");
      for (const activity of this.activities) {
        activity.hidden = words.length > 0 && !activity.querySelector(".nx-datasets:not([hidden])");
      }
      this.tell(shown.length);
      this.changed(shown);
    }

    tell(count) {
      const all = this.datasets.length;
      this.count.value = count === all ? counted(all, "dataset") : count ? `${count} of ${all} datasets` : "No dataset has all of these words.";
    }
  }

  /* Dialogs */

  /** A dialog with a title and a button to close; it removes itself when closed. */
  function openDialog(sheet, title, ...buttons) {
    const close = make("button", { type: "button" }, "Close");
    const heading = make("h2", { id: "nx-dialog-title" }, title);
    const dialog = make("dialog", { "aria-labelledby": heading.id }, make("header", {}, heading, ...buttons, close));
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    sheet.append(dialog);
    dialog.showModal();
    return dialog;
  }

  function valueRow({ name, value, unit, remark }, remarks) {
    const doubt = remarks ? [make("td", { className: "nx-doubt" }, remark)] : [];
    return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value), make("td", {}, unit), ...doubt);
  }

  /** A table of values in named groups, with a field that filters it. */
  function valueTable(groups, wanted) {
    const remarks = groups.some(([, values]) => values.some(({ remark }) => remark));
    const head = ["Parameter", "Value", "Unit", ...(remarks ? ["Remark"] : [])].map((name) => make("th", { scope: "col" }, name));
    const bodies = groups.map(([title, values]) => {
      const heading = make("tr", { className: "nx-group" }, make("th", { colSpan: head.length, scope: "colgroup" }, title));
      return make("tbody", {}, ...(groups.length > 1 ? [heading] : []), ...values.map((value) => valueRow(value, remarks)));
    });
    const field = make("input", { type: "search", placeholder: "Name, value, unit …", "aria-label": "Filter values", value: wanted });
    const count = make("output", { "aria-live": "polite" });
    const rows = bodies.flatMap((body) => Array.from(body.rows)).filter((row) => row.className !== "nx-group");
    const filter = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const content = Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => content.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      for (const body of bodies) body.hidden = !body.querySelector("tr:not(.nx-group):not([hidden])");
      count.value = shown === rows.length ? counted(shown, "value") : shown ? `${shown} of ${rows.length} values` : "No value has all of these words.";
    };
    field.addEventListener("input", filter);
    filter();
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), ...bodies);
    return { field, bar: make("div", { className: "nx-bars" }, field, count), scroll: make("div", { className: "nx-scroll", tabIndex: 0, role: "region", "aria-label": "Values" }, table) };
  }

  function openSetup(sheet, activity) {
    const table = valueTable([["", valuesOf(activity.querySelector(".nx-setup"))]], "");
    openDialog(sheet, `${text(activity, "h2")}: setup parameters`).append(table.bar, table.scroll);
    table.field.focus();
  }

  function facts(dataset) {
    const link = (address, label) => (address ? [make("a", { href: address }, label)] : []);
    const told = [
      ["File", [dataset.location ? decoded(dataset.location) : dataset.name]],
      ["Description", [dataset.description]],
      ["Format", [dataset.format]],
      ["Type", [[dataset.type, dataset.kind, dataset.role].filter(Boolean).join(" · ")]],
      ["Links", [...link(dataset.raw, "Raw file"), ...link(dataset.sidecar, "Metadata (JSON)"), ...link(dataset.preview, "Preview")]],
    ];
    const known = told.filter(([, parts]) => parts.some(Boolean));
    const list = make("dl", {}, ...known.map(([name, parts]) => make("div", {}, make("dt", {}, name), make("dd", {}, ...parts))));
    const picture = dataset.preview ? [make("img", { src: dataset.preview, alt: `Preview of ${dataset.name}` })] : [];
    return make("div", { className: "nx-facts" }, list, ...picture);
  }

  /** All that is known of a dataset, with steps to its neighbours in the listing. */
  function openDataset(sheet, datasets, at, wanted = "") {
    const dataset = datasets[at];
    const steps = [["◀", "Previous dataset", at - 1], ["▶", "Next dataset", at + 1]].map(([sign, label, to]) => {
      const button = make("button", { type: "button", title: label, "aria-label": label, disabled: !datasets[to] }, sign);
      button.addEventListener("click", () => {
        dialog.close();
        openDataset(sheet, datasets, to, table.field.value).querySelector(`[aria-label="${label}"]:enabled`)?.focus();
      });
      return button;
    });
    const dialog = openDialog(sheet, dataset.name, ...steps);
    const setup = dataset.setup();
    const groups = [["This dataset", dataset.values()], ...(setup.length ? [["The same in the whole activity", setup]] : [])];
    const table = valueTable(groups, wanted);
    table.scroll.prepend(facts(dataset));
    dialog.append(table.bar, table.scroll);
    dialog.addEventListener("close", () => dataset.row.querySelector("summary").focus());
    table.field.focus();
    return dialog;
  }

  /* Downloads */

  function save(blob, name) {
    const address = URL.createObjectURL(blob);
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  /** The record as an object: what the page shows, by the names that people read. */
  function recordOf(article, activities, datasets) {
    const quantities = (values) =>
      Object.fromEntries(values.map(({ name, value, unit, remark }) => [name, { value, ...(unit && { unit }), ...(remark && { doubtful: true }) }]));
    const told = Array.from(article.querySelectorAll(".nx-session dl > div"), (pair) => [pair.children[0].textContent, pair.children[1].textContent.trim()]);
    return {
      key: article.dataset.key,
      title: text(article, "h1"),
      motivation: text(article, ".nx-motivation"),
      session: Object.fromEntries(told),
      samples: Array.from(article.querySelectorAll(".nx-sample"), (sample) => ({
        name: text(sample, "strong"),
        elements: Array.from(sample.querySelectorAll(".nx-elements li"), (element) => element.textContent),
        description: Array.from(sample.querySelectorAll("p:not(:first-child)"), (paragraph) => paragraph.textContent),
      })),
      activities: activities.map((activity) => ({
        start: activity.querySelector(".nx-byline time")?.getAttribute("datetime") ?? "",
        setup: quantities(valuesOf(activity.querySelector(".nx-setup"))),
        datasets: datasets
          .filter(({ row }) => activity.contains(row))
          .map(({ name, location, moment, type, kind, role, format, description, values }) => ({
            name, location, time: moment, type, dataType: kind, role, format, description, metadata: quantities(values()),
          })),
      })),
    };
  }

  const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
    return n;
  });

  function crcOf(bytes, crc) {
    for (let n = 0; n < bytes.length; n++) crc = CRC[(crc ^ bytes[n]) & 0xff] ^ (crc >>> 8);
    return crc;
  }

  /** A ZIP file without compression (APPNOTE.TXT of PKWARE, sections 4.3 to 4.5), made of the blobs given to it. */
  class Archive {
    constructor() {
      this.parts = [];
      this.entries = [];
      this.names = new Set();
      this.size = 0;
    }

    /** A name that every system can write, and that no other entry has. */
    freeName(path) {
      const parts = path.split("/").map((part) => part.replace(FORBIDDEN, "_").replace(/[. ]+$/, "_")).filter((part) => part && !/^_?$/.test(part));
      const name = parts.join("/") || "file";
      let free = name;
      for (let n = 2; this.names.has(free.toLowerCase()); n++) free = name.replace(/(\.[^./]*)?$/, (ending) => ` (${n})${ending}`);
      this.names.add(free.toLowerCase());
      return new TextEncoder().encode(free);
    }

    add(path, blob, crc, moment) {
      const name = this.freeName(path);
      const fields = this.fields(name, blob.size, crc, moment);
      this.entries.push({ name, fields, offset: this.size });
      const header = new Uint8Array([0x50, 0x4b, 3, 4, ...fields]);
      this.parts.push(header, name, blob);
      this.size += header.length + name.length + blob.size;
    }

    /** What the header of a file and its entry in the directory have in common. */
    fields(name, size, crc, moment) {
      const [year, month, day, hour, minute, second] = (moment.match(/\d+/g) ?? []).map(Number);
      const known = year >= 1980 && year < 2108 && second !== undefined;
      const time = known ? (hour << 11) | (minute << 5) | (second >> 1) : 0;
      const date = known ? ((year - 1980) << 9) | (month << 5) | day : (1 << 5) | 1;
      const view = new DataView(new ArrayBuffer(26));
      view.setUint16(0, 20, true);
      view.setUint16(2, 0x0800, true); // the name is UTF-8
      view.setUint16(6, time, true);
      view.setUint16(8, date, true);
      view.setUint32(10, crc, true);
      view.setUint32(14, size, true);
      view.setUint32(18, size, true);
      view.setUint16(22, name.length, true);
      return new Uint8Array(view.buffer);
    }

    blob() {
      const directory = this.entries.map(({ name, fields, offset }) => {
        const rest = new DataView(new ArrayBuffer(14));
        rest.setUint32(10, offset, true);
        return [new Uint8Array([0x50, 0x4b, 1, 2, 20, 0, ...fields]), new Uint8Array(rest.buffer), name];
      });
      const length = directory.flat().reduce((sum, part) => sum + part.length, 0);
      const end = new DataView(new ArrayBuffer(22));
      end.setUint32(0, 0x06054b50, true);
      end.setUint16(8, this.entries.length, true);
      end.setUint16(10, this.entries.length, true);
      end.setUint32(12, length, true);
      end.setUint32(16, this.size, true);
      return new Blob([...this.parts, ...directory.flat(), end.buffer], { type: "application/zip" });
    }
  }

  /** Fetch a file in pieces, so that no more than one of them is in memory twice. */
  async function fetched(address, room, signal) {
    const answer = await fetch(address, { signal });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const reader = answer.body.getReader();
    const pieces = [];
    let [crc, size] = [-1, 0];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { blob: new Blob(pieces), crc: (crc ^ -1) >>> 0 };
      crc = crcOf(value, crc);
      size += value.length;
      if (size > room) throw new RangeError("too large");
      pieces.push(value);
    }
  }

  /** What belongs into the archive: raw files and their metadata, each once, and the record. */
  function filesOf(article, datasets) {
    const files = new Map();
    for (const { location, raw, sidecar, moment } of datasets) {
      files.set(raw, { path: decoded(location), moment });
      if (sidecar) files.set(sidecar, { path: `${decoded(location)}.json`, moment });
    }
    const record = article.querySelector(".nx-xml");
    if (record) files.set(record.href, { path: record.download, moment: "" });
    return files;
  }

  async function archive(files, progress, signal) {
    if (files.size > MOST_FILES) throw new RangeError("too many");
    const made = new Archive();
    const missing = [];
    for (const [address, { path, moment }] of files) {
      progress(path);
      try {
        const { blob, crc } = await fetched(address, MOST_BYTES - made.size, signal);
        made.add(path, blob, crc, moment);
      } catch (error) {
        if (error.name === "AbortError" || error instanceof RangeError) throw error;
        missing.push(path);
      }
    }
    if (missing.length) {
      const list = new TextEncoder().encode(`These files could not be fetched:\n${missing.join("\n")}\n`);
      made.add("missing files.txt", new Blob([list]), (crcOf(list, -1) ^ -1) >>> 0, "");
    }
    return { blob: made.blob(), missing };
  }

  const overHttp = (address) => /^https?:/.test(address);

  function openFiles(sheet, article, datasets) {
    const dialog = openDialog(sheet, `Files of ${counted(datasets.length, "dataset")}`);
    const paths = [...new Set(datasets.map(({ location }) => decoded(location)))];
    const list = make("textarea", { readOnly: true, value: paths.join("\n"), "aria-label": "Paths of the raw files" });
    const copy = make("button", { type: "button" }, "Copy paths");
    const told = make("output", { "aria-live": "polite" });
    copy.addEventListener("click", async () => {
      list.select();
      if (navigator.clipboard) await navigator.clipboard.writeText(list.value).catch(() => document.execCommand("copy"));
      else document.execCommand("copy");
      told.value = `${counted(paths.length, "path")} copied.`;
    });
    const bar = make("div", { className: "nx-bars" }, copy, told);
    if (overHttp(location.href) && datasets.every(({ raw }) => overHttp(raw))) offerArchive(bar, told, dialog, article, datasets);
    else told.value = "The raw files cannot be downloaded from here; these are their paths below the instruments' folder.";
    dialog.append(bar, make("div", { className: "nx-scroll" }, list));
  }

  function offerArchive(bar, told, dialog, article, datasets) {
    const files = filesOf(article, datasets);
    const button = make("button", { type: "button" }, "Download as zip");
    const bars = make("progress", { max: files.size, value: 0, hidden: true, "aria-label": "Files fetched" });
    const stop = new AbortController();
    dialog.addEventListener("close", () => stop.abort());
    button.addEventListener("click", async () => {
      button.disabled = true;
      bars.hidden = false;
      bars.value = 0;
      try {
        const { blob, missing } = await archive(files, (path) => ((bars.value += 1), (told.value = path)), stop.signal);
        save(blob, `${article.dataset.key}.zip`);
        told.value = missing.length ? `Done; ${counted(missing.length, "file")} could not be fetched and is listed inside.` : "Done.";
      } catch (error) {
        if (error.name === "AbortError") return;
        told.value = "These are too many files, or more than 2 GB: filter the datasets to take fewer, or copy the paths.";
      }
      bars.hidden = true;
      button.disabled = false;
    });
    bar.prepend(button, bars);
  }

  /* Putting it together */

  /** Mark the activities in view in the navigation. */
  function followActivities(article, activities) {
    const links = new Map(Array.from(article.querySelectorAll(".nx-navigation li a"), (link) => [link.hash.slice(1), link]));
    const seen = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) links.get(target.id)?.classList.toggle("nx-here", isIntersecting);
      },
      { rootMargin: "-60px 0px -10% 0px" },
    );
    activities.forEach((activity) => seen.observe(activity));
  }

  /** Show the preview of the row under the pointer or with the focus beside its listing. */
  function showBeside(row) {
    const figure = row.closest(".nx-listing").querySelector(".nx-beside");
    if (!figure || figure.dataset.row === row.id) return;
    figure.dataset.row = row.id;
    const { name, preview, type, time } = datasetOf(row);
    const image = figure.querySelector("img");
    image.hidden = !preview;
    image.alt = `Preview of ${name}`;
    if (preview) image.src = preview;
    figure.querySelector("figcaption").textContent = preview ? `${name} · ${type} · ${time}` : `${name}: no preview`;
  }

  /** Up and down move the focus to the same control of the row above or below. */
  function moveByRow(event, rows) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const row = event.target.closest?.(".nx-datasets tbody tr");
    if (!step || !row || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const control = event.target.matches("summary") ? "summary" : `.${event.target.className}`;
    const shown = rows().filter(({ row: other }) => other.querySelector(control));
    const to = shown[shown.findIndex((dataset) => dataset.row === row) + step];
    event.preventDefault();
    to?.row.querySelector(control).focus();
  }

  /** CDCS serves the XML of the record that its page shows, "…/data?id=5". */
  function linkXmlOfCdcs(article, tools) {
    const number = new URLSearchParams(location.search).get("id") ?? "";
    if (article.querySelector(".nx-xml") || !location.pathname.endsWith("/data") || !/^\d+$/.test(number)) return;
    const href = new URL(`rest/data/download/${number}/`, location.href).href;
    tools.prepend(make("a", { className: "nx-xml", href, download: `${article.dataset.key}.xml` }, "Record (XML)"));
  }

  function start(article) {
    const sheet = article.querySelector(".nx-sheet");
    const activities = Array.from(article.querySelectorAll(".nx-activity"));
    const datasets = Array.from(article.querySelectorAll(".nx-datasets tbody tr"), datasetOf);
    let shown = datasets;
    sheet.classList.add("nx-scripted");

    const tools = article.querySelector(".nx-tools");
    linkXmlOfCdcs(article, tools);
    const json = make("button", { type: "button" }, "Record (JSON)");
    json.addEventListener("click", () => {
      const content = JSON.stringify(recordOf(article, activities, datasets), null, 2);
      save(new Blob([content], { type: "application/json" }), `${article.dataset.key}.json`);
    });
    tools.append(json);
    if (!datasets.length) return;

    const files = make("button", { type: "button" }, "Files …");
    files.addEventListener("click", () => openFiles(sheet, article, shown));
    tools.append(files);

    const figure = article.querySelector(".nx-large");
    const gallery = figure && new Gallery(article.querySelector(".nx-gallery"), figure);
    gallery?.fill(datasets);
    const filter = new Filter(datasets, activities, (left) => {
      shown = left;
      gallery?.fill(left);
    });
    article.querySelector(".nx-activities").prepend(filter.bar);
    followActivities(article, activities);

    article.addEventListener("mouseover", ({ target }) => {
      const row = target.closest(".nx-datasets tbody tr");
      if (row) showBeside(row);
    });
    article.addEventListener("focusin", ({ target }) => {
      const row = target.closest(".nx-datasets tbody tr");
      if (row) showBeside(row);
    });
    article.addEventListener("keydown", (event) => moveByRow(event, () => shown));
    article.addEventListener("click", (event) => {
      const summary = event.target.closest("summary");
      const row = summary?.closest(".nx-datasets tbody tr");
      if (row) openDataset(sheet, shown, shown.findIndex((dataset) => dataset.row === row));
      else if (summary?.parentElement.matches(".nx-setup")) openSetup(sheet, summary.closest(".nx-activity"));
      else return;
      event.preventDefault();
    });
  }

  /* Parts of a long listing get their height when they come into view, and push away what was scrolled to. */
  function hold(target, frames = 40) {
    const { top, bottom } = target.getBoundingClientRect();
    if (bottom < 0 || top > innerHeight) target.scrollIntoView({ block: "center", behavior: "instant" });
    if (frames) requestAnimationFrame(() => hold(target, frames - 1));
  }

  document.querySelectorAll("article.nx-record").forEach(start);
  addEventListener("hashchange", () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest(".nx-part tr");
    if (row) hold(row);
  });
})();
