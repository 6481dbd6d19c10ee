/* The index in the browser: its shards are loaded when they are needed, newest first, and searched by scanning columns.

   The format is told in portal/shards.py. Sessions are numbered through, month by month, newest first, so that the
   shards of a month fill the same stretch of every column, whichever comes first. 50 000 sessions are scanned in a few
   milliseconds: there is neither a worker nor an inverted index. */

(() => {
  "use strict";

  const AT_ONCE = 6;
  const MOST_MASKS = 60;
  const WHOLE_WORD = 2; // terms as short as chemical symbols are found as words only
  const MINUTES = 1440;

  const isLetter = (code) => (code > 96 && code < 123) || (code > 47 && code < 58) || code > 127;

  class Index {
    /* months: [[name, revision, sessions], ...], newest first. */
    constructor({ months, facets, digits }, onNews) {
      this.months = months.map(([name, revision, sessions]) => ({ name, revision, sessions, parts: {}, state: {} }));
      this.total = 0;
      for (const month of this.months) {
        month.base = this.total;
        this.total += month.sessions;
      }
      this.start = new Int32Array(this.total);
      this.length = new Int32Array(this.total);
      this.offset = new Int16Array(this.total);
      this.datasets = new Int32Array(this.total);
      this.facets = new Map(
        Object.entries({ ...facets, date: "facets" }).map(([name, part]) => [
          name,
          { part, names: [], numbers: new Map() },
        ]),
      );
      this.digits = new Int8Array(128);
      [...digits].forEach((digit, n) => {
        this.digits[digit.charCodeAt(0)] = n;
      });
      this.base = digits.length / 2;
      this.masks = new Map();
      this.orders = new Map();
      this.onNews = onNews;
      this.waiting = [];
      this.loading = 0;
      window.nexusIndex = (...shard) => this.receive(...shard);
    }

    /* ---- Loading ---- */

    /* Have a part of some months loaded, in their order; "urgent" ones before all that wait already. */
    want(part, months = this.months, isUrgent = false) {
      const missing = months.filter((month) => !month.state[part] || (isUrgent && month.state[part] === "waiting"));
      for (const month of missing) month.state[part] = "waiting";
      const jobs = missing.map((month) => ({ month, part }));
      this.waiting = isUrgent ? [...jobs, ...this.waiting] : [...this.waiting, ...jobs];
      this.work();
    }

    work() {
      while (this.loading < AT_ONCE && this.waiting.length) {
        const { month, part } = this.waiting.shift();
        if (month.state[part] === "waiting") this.load(month, part);
      }
    }

    load(month, part) {
      month.state[part] = "loading";
      this.loading += 1;
      const script = document.createElement("script");
      const done = () => {
        script.remove();
        this.loading -= 1;
        if (month.state[part] === "loading") month.state[part] = "failed";
        this.onNews();
        this.work();
      };
      script.addEventListener("load", done);
      script.addEventListener("error", done);
      script.src = `index/${month.name}.${part}.js?v=${month.revision}`;
      document.head.append(script);
    }

    receive(name, part, revision, content) {
      const month = this.months.find((each) => each.name === name);
      if (month?.state[part] !== "loading") return;
      if (revision !== month.revision) {
        month.state[part] = "outdated";
        return;
      }
      this[`take_${part}`](month, content);
      month.state[part] = "here";
    }

    retry() {
      for (const month of this.months) {
        for (const part of Object.keys(month.state)) {
          if (month.state[part] !== "failed") continue;
          month.state[part] = "waiting";
          this.waiting.push({ month, part });
        }
      }
      this.work();
    }

    /* The newest months that fill a page: what is loaded before all else. */
    newest(sessions) {
      const many = this.months.findIndex(({ base }) => base >= sessions);
      return many < 0 ? this.months : this.months.slice(0, many);
    }

    /* Months whose part is in a state. */
    those(part, state) {
      return this.months.filter((month) => month.state[part] === state);
    }

    isHere(part) {
      return this.months.every((month) => month.state[part] === "here");
    }

    isPending(part, months = this.months) {
      return months.some((month) => ["waiting", "loading"].includes(month.state[part]));
    }

    take_facets(month, content) {
      const { base, sessions } = month;
      const gaps = this.unpacked(content.start);
      let start = content.from;
      for (let n = 0; n < sessions; n += 1) {
        start -= gaps[n];
        this.start[base + n] = start;
      }
      this.length.set(this.unpacked(content.length), base);
      this.offset.set(
        this.unpacked(content.offset).map((minutes) => minutes - 1440),
        base,
      );
      this.datasets.set(this.unpacked(content.datasets), base);
      this.file(month, "facets", content);
      const date = this.facets.get("date");
      month.parts.date = filed(...this.dates(month), date);
      this.orders.clear();
    }

    take_more(month, content) {
      this.file(month, "more", content);
    }

    file(month, part, content) {
      for (const [name, facet] of this.facets) {
        if (facet.part === part && name in content)
          month.parts[name] = filed(content[name].names, this.unpacked(content[name].of), facet);
      }
    }

    /* Numbers of a packed column: digits from "base" on are followed by more. */
    unpacked(text) {
      const numbers = [];
      let number = 0;
      let worth = 1;
      for (let at = 0; at < text.length; at += 1) {
        const digit = this.digits[text.charCodeAt(at)];
        if (digit >= this.base) {
          number += (digit - this.base) * worth;
          worth *= this.base;
        } else {
          numbers.push(number + digit * worth);
          number = 0;
          worth = 1;
        }
      }
      return numbers;
    }

    /* Each session is filed under its year and its month. */
    dates(month) {
      const starts = this.start.subarray(month.base, month.base + month.sessions);
      const texts = Array.from(starts, (start, n) =>
        new Date((start + this.offset[month.base + n]) * 60_000).toISOString().slice(0, 7),
      );
      const names = [...new Set(texts.flatMap((text) => [text.slice(0, 4), text]))].sort();
      const number = new Map(names.map((name, n) => [name, n]));
      return [names, texts.flatMap((text) => [2, number.get(text.slice(0, 4)), number.get(text)])];
    }

    take_rows(month, content) {
      month.parts.rows = content;
      this.orders.delete("title");
    }

    take_numbers(month, content) {
      month.parts.numbers = new Map(
        Object.entries(content).map(([field, [sessions, spans]]) => [
          field,
          {
            sessions: Uint32Array.from(sessions),
            low: Float64Array.from(spans, (span) => (typeof span === "number" ? span : span[0])),
            high: Float64Array.from(spans, (span) => (typeof span === "number" ? span : span[1])),
          },
        ]),
      );
    }

    take_words(month, content) {
      const starts = new Uint32Array(content.length + 1);
      const titleEnds = new Uint32Array(content.length);
      content.forEach((text, n) => {
        starts[n + 1] = starts[n] + text.length + 1;
        const end = text.indexOf("\n");
        titleEnds[n] = starts[n] + (end < 0 ? text.length : end);
      });
      month.parts.words = { text: content.join("\u0000"), starts, titleEnds };
    }

    /* ---- Criteria: { id, part, mark(month, mask) }; a mask has a byte per session, 0 where it fails ---- */

    words(term) {
      return { id: `words ${term}`, part: "words", mark: (month, mask) => markWords(month, term, mask) };
    }

    number(item) {
      return {
        id: `number ${item.fields.map((field) => Object.values(field).join(" ")).join("; ")}`,
        part: "numbers",
        mark: (month, mask) => item.fields.forEach((field) => markNumbers(month, field, mask)),
      };
    }

    date({ first, end }) {
      return {
        id: `date ${first} ${end}`,
        part: "facets",
        mark: ({ base, sessions }, mask) => {
          for (let n = base; n < base + sessions; n += 1) {
            const begins = (this.start[n] + this.offset[n]) / MINUTES;
            if (begins < end && begins + this.length[n] / MINUTES >= first) mask[n] = 1;
          }
        },
      };
    }

    named(facet, names) {
      const { numbers, part } = this.facets.get(facet);
      return {
        id: `${facet} ${[...names].sort().join("\u0000")}`,
        part,
        mark: ({ base, sessions, parts }, mask) => {
          const wanted = new Set([...names].map((name) => numbers.get(name)));
          const { starts, values } = parts[facet];
          for (let n = 0; n < sessions; n += 1) {
            for (let at = starts[n]; at < starts[n + 1]; at += 1) if (wanted.has(values[at])) mask[base + n] = 1;
          }
        },
      };
    }

    /* The mask of a criterion as far as its shards are here; what was found once is kept. */
    mask(criterion) {
      let kept = this.masks.get(criterion.id);
      this.masks.delete(criterion.id);
      kept ??= { mask: new Uint8Array(this.total), done: new Set() };
      this.masks.set(criterion.id, kept);
      if (this.masks.size > MOST_MASKS) this.masks.delete(this.masks.keys().next().value);
      for (const month of this.those(criterion.part, "here")) {
        if (kept.done.has(month) || month.state.facets !== "here") continue;
        criterion.mark(month, kept.mask);
        kept.done.add(month);
      }
      return kept.mask;
    }

    /* Months in which a session may meet all of some criteria, as far as is known. */
    where(criteria) {
      const masks = criteria.map((criterion) => this.mask(criterion));
      return this.months.filter(
        ({ base, sessions, state }) =>
          state.facets !== "here" || masks.every((mask) => mask.subarray(base, base + sessions).some(Boolean)),
      );
    }

    /* ---- Searching ---- */

    /* Per session: how many criteria it fails, and the last of them, so that one pass serves the results, the counts
       of facets (where the facet's own criterion does not count) and the hints on what finds nothing. */
    filter(criteria) {
      const fails = new Uint8Array(this.total);
      const culprit = new Uint8Array(this.total);
      criteria.forEach((criterion, number) => {
        const mask = this.mask(criterion);
        for (let n = 0; n < this.total; n += 1) {
          if (mask[n] === 0) {
            fails[n] += 1;
            culprit[n] = number;
          }
        }
      });
      return { fails, culprit };
    }

    /* How often each name of a facet occurs among the sessions that fail nothing but its own criterion. */
    count(facet, { fails, culprit }, own) {
      const { names, part } = this.facets.get(facet);
      const counts = new Uint32Array(names.length);
      for (const { base, sessions, parts } of this.those(part, "here")) {
        const { starts, values } = parts[facet];
        for (let n = 0; n < sessions; n += 1) {
          if (fails[base + n] > 1 || (fails[base + n] === 1 && culprit[base + n] !== own)) continue;
          for (let at = starts[n]; at < starts[n + 1]; at += 1) counts[values[at]] += 1;
        }
      }
      return counts;
    }

    /* Sessions that fail nothing, sorted. Terms are criteria that say how well they are met. */
    sorted({ fails }, how, terms = []) {
      const order = this.order(how === "relevance" ? "newest" : how);
      const found = order.filter((n) => fails[n] === 0);
      if (how !== "relevance" || !terms.length) return found;
      const masks = terms.map((term) => this.mask(term));
      const ranks = new Map();
      for (const n of found) {
        const rank = masks.reduce((sum, mask) => sum + mask[n], 0);
        if (!ranks.has(rank)) ranks.set(rank, []);
        ranks.get(rank).push(n);
      }
      return Uint32Array.from([...ranks.keys()].sort((a, b) => b - a).flatMap((rank) => ranks.get(rank)));
    }

    /* All sessions that are here, in an order; kept until more come. */
    order(how) {
      if (!this.orders.has(how)) this.orders.set(how, Uint32Array.from(this.inOrder(how)));
      return this.orders.get(how);
    }

    inOrder(how) {
      if (how === "oldest") return this.order("newest").slice().reverse();
      const here = this.those("facets", "here").flatMap(({ base, sessions }) =>
        Array.from({ length: sessions }, (_, n) => base + n),
      );
      if (how === "datasets") return here.sort((a, b) => this.datasets[b] - this.datasets[a] || a - b);
      if (how === "title") {
        const titles = this.titles();
        const { compare } = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
        return here.sort((a, b) => compare(titles[a], titles[b]) || a - b);
      }
      return here.sort((a, b) => this.start[b] - this.start[a] || a - b);
    }

    titles() {
      const titles = new Array(this.total).fill("\uffff");
      for (const { base, parts } of this.those("rows", "here")) {
        parts.rows.title.forEach((title, n) => {
          titles[base + n] = title;
        });
      }
      return titles;
    }

    /* ---- One session ---- */

    monthOf(number) {
      let low = 0;
      let high = this.months.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (this.months[middle].base <= number) low = middle;
        else high = middle - 1;
      }
      return this.months[low];
    }

    names(facet, number) {
      const { base, parts } = this.monthOf(number);
      const { starts, values } = parts[facet];
      return Array.from(
        values.subarray(starts[number - base], starts[number - base + 1]),
        (n) => this.facets.get(facet).names[n],
      );
    }

    /* What the list shows of a session; null while its shard is not here. */
    row(number) {
      const { base, parts } = this.monthOf(number);
      if (!parts.rows) return null;
      return Object.fromEntries(Object.entries(parts.rows).map(([column, values]) => [column, values[number - base]]));
    }

    /* Spans of a field's values in a session: [[low, high], ...]. */
    spans(field, number) {
      const { base, parts } = this.monthOf(number);
      const column = parts.numbers?.get(field);
      if (!column) return [];
      const first = column.sessions.indexOf(number - base);
      const found = [];
      for (let at = first; at >= 0 && column.sessions[at] === number - base; at += 1)
        found.push([column.low[at], column.high[at]]);
      return found;
    }
  }

  /* Names of a shard as numbers of all names, session by session: values[starts[n]] up to values[starts[n + 1]]. */
  function filed(names, of, facet) {
    const numbers = names.map((name) => {
      if (!facet.numbers.has(name)) {
        facet.numbers.set(name, facet.names.length);
        facet.names.push(name);
      }
      return facet.numbers.get(name);
    });
    const starts = [0];
    const values = [];
    for (let at = 0; at < of.length; at += 1 + of[at]) {
      for (let n = 1; n <= of[at]; n += 1) values.push(numbers[of[at + n]]);
      starts.push(values.length);
    }
    return { starts: Uint32Array.from(starts), values: Uint32Array.from(values) };
  }

  /* 2 where the title has the term, 1 where only the rest has it. */
  function markWords({ base, parts }, term, mask) {
    const { text, starts, titleEnds } = parts.words;
    const isShort = term.length <= WHOLE_WORD;
    let n = 0;
    let at = text.indexOf(term);
    while (at >= 0) {
      const end = at + term.length;
      if (isShort && ((at > 0 && isLetter(text.charCodeAt(at - 1))) || isLetter(text.charCodeAt(end)))) {
        at = text.indexOf(term, at + 1);
        continue;
      }
      while (starts[n + 1] <= at) n += 1;
      mask[base + n] = at < titleEnds[n] ? 2 : 1;
      at = text.indexOf(term, starts[n + 1]);
    }
  }

  function markNumbers({ base, parts }, field, mask) {
    const column = parts.numbers.get(field.name);
    if (!column) return;
    const { sessions, low, high } = column;
    for (let at = 0; at < sessions.length; at += 1)
      if (touches(field, low[at], high[at])) mask[base + sessions[at]] = 1;
  }

  /* Whether a span of values and what is asked for of a field have a number in common. */
  const touches = (field, low, high) =>
    (field.lowOpen ? high > field.low : high >= field.low) && (field.highOpen ? low < field.high : low <= field.high);

  Index.touches = touches;
  window.NexusIndex = Index;
})();
