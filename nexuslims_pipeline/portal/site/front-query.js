/* What people type, understood: words, numbers with units, dates.

   Pure functions of text; neither the page nor the index is known here. A query is a list of items, each with the
   place in the text that it was read from ("from", "to"), so that it can be taken out again:

   { kind: "words",  term }                                 folded text to be found
   { kind: "number", label, fields: [{ name, low, high, lowOpen, highOpen }] }   one of the fields lies in its interval,
                                                            which is in the field's own unit
   { kind: "date",   label, first, end }                    days since 1970, the end not included
   { kind: "unclear", label }                               a number of nobody knows what: asks nothing of a session */

(() => {
  "use strict";

  const SLACK = 1e-5; // the index keeps six digits
  const MOST_NAME_WORDS = 4;
  const DAY = 86_400_000;
  const MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
  ];

  /* Text as it is compared; the index is folded alike, by `folded` of portal/shards.py. */
  const fold = (text) =>
    text
      .normalize("NFKD")
      .replace(/\p{Mn}/gu, "")
      .toLowerCase();

  const tidy = (number) => Number(number.toPrecision(12));

  /* ---- Units and fields ---- */

  class Vocabulary {
    /* From the tables that portal/quantities.py makes. */
    constructor({ dimensions, fields }) {
      this.dimensions = dimensions.map(([name]) => name);
      this.units = dimensions.flatMap(([, units], dimension) =>
        units.map(([symbol, factor, offset, spellings]) => ({ symbol, factor, offset, spellings, dimension })),
      );
      this.spellings = this.units
        .flatMap((unit) => [...new Set([unit.symbol, ...unit.spellings])].map((spelling) => ({ spelling, unit })))
        .sort((a, b) => b.spelling.length - a.spelling.length);
      this.fields = fields.map(([name, display, dimension, symbol, others]) => ({
        name,
        display,
        dimension,
        unit: this.units.find((unit) => unit.symbol === symbol && unit.dimension === dimension) ?? {
          symbol,
          factor: 1,
          offset: 0,
          dimension,
        },
        names: [display, ...others].map((words) => fold(words).split(/[\s-]+/)),
      }));
      this.byName = new Map(this.fields.map((field) => [field.name, field]));
    }

    convert(number, from, to) {
      return tidy((number * from.factor + from.offset - to.offset) / to.factor);
    }

    /* Units that a spelling at a place may mean, the likeliest first, and where the longest spelling ends. */
    unitsAt(text, at) {
      const start = at + /^\s*/.exec(text.slice(at, at + 20))[0].length;
      for (const same of [(spelling, cut) => spelling === cut, (spelling, cut) => fold(spelling) === fold(cut)]) {
        const found = this.spellings.filter(
          ({ spelling }) =>
            same(spelling, text.slice(start, start + spelling.length)) && endsWord(text, start + spelling.length),
        );
        if (found.length) {
          const longest = found[0].spelling.length;
          const units = found
            .filter(({ spelling }) => spelling.length === longest)
            .sort((a, b) => (b.spelling === b.unit.symbol) - (a.spelling === a.unit.symbol))
            .map(({ unit }) => unit);
          return { end: start + longest, units };
        }
      }
      return null;
    }

    /* Fields that words name: those that are called exactly so, else those whose words begin so. */
    fieldsNamed(text) {
      const words = fold(text)
        .split(/[\s-]+/)
        .filter(Boolean);
      const exact = this.fields.filter(({ names }) => names.some((name) => name.join(" ") === words.join(" ")));
      return exact.length ? exact : this.fields.filter(({ names }) => names.some((name) => beginsSo(words, name)));
    }
  }

  const endsWord = (text, at) => !/[\p{L}\p{N}_]/u.test(text.charAt(at)) || /[°%]/.test(text.charAt(at - 1));

  function beginsSo(words, name) {
    let at = 0;
    for (const word of words) {
      while (at < name.length && !(name[at] === word || (word.length > 2 && name[at].startsWith(word)))) at += 1;
      if (at === name.length) return false;
      at += 1;
    }
    return words.length > 0;
  }

  /* ---- Numbers ---- */

  /* 50000, 50,000, 1.5, 1,5, .5, 1e-4: a comma before three digits parts thousands, another one parts decimals. */
  const WHOLE = "\\d{1,3}(?:[,'\\u00a0\\u202f]\\d{3})+(?![\\d,])|\\d+|(?=\\.\\d)";
  const NUMBER = new RegExp(`([-+−]?)(${WHOLE})(?:[.,](\\d+))?(?:[eE]([-+−]?\\d+))?`, "y");
  const MULTIPLIERS = { k: 1e3, M: 1e6, G: 1e9 };
  const COMPARISONS = [
    ["<=", /(?:<=|≤|(?:at most|up to|no more than)(?=\s))\s*/iy],
    ["<", /(?:<|(?:below|under|less than|smaller than)(?=\s))\s*/iy],
    [">=", /(?:>=|≥|(?:at least|no less than)(?=\s))\s*/iy],
    [">", /(?:>|(?:above|over|more than|greater than|larger than)(?=\s))\s*/iy],
    ["~", /(?:~|≈|(?:about|around)(?=\s))\s*/iy],
    ["..", /(?:between|from)\s+/iy],
    ["=", /(?:[=:]|(?:is|of|at)(?=\s))\s*/iy],
  ];
  const TO = /\s*(?:\.\.\.?|…|–|—|-)\s*|\s+(?:to|and)\s+/iy;

  const matchAt = (pattern, text, at) => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };

  /* A number, and the worth of its last digit: "1.50k" is 1500 give or take 5. */
  function numberAt(text, at) {
    const found = matchAt(NUMBER, text, at);
    if (!found) return null;
    const [written, sign, whole, decimals = "", power = "0"] = found;
    const exponent = Number(power.replace("−", "-"));
    const size = Number(`${whole.replace(/\D/g, "")}.${decimals}e${exponent}`);
    const value = /[-−]/.test(sign) ? -size : size;
    if (!Number.isFinite(value)) return null;
    const step = 10 ** (exponent - decimals.length);
    const end = at + written.length;
    const letter = text.charAt(end);
    const multiplier = MULTIPLIERS[letter];
    const isMultiplied = multiplier && /^[x×]?(?![\p{L}\p{N}_])/u.test(text.slice(end + 1, end + 3));
    return isMultiplied
      ? { value: value * multiplier, step: step * multiplier, end: end + 1, written: written + letter }
      : { value, step, end, written };
  }

  /* "< 1 nm", "80 to 200 kV", "50k": the interval, in whichever unit; null if there is none. */
  function conditionAt(text, at, vocabulary, isNamed) {
    let comparison = "";
    let place = at;
    for (const [sign, pattern] of COMPARISONS) {
      const found = matchAt(pattern, text, at);
      if (found && (isNamed || sign !== "=")) {
        comparison = sign;
        place = at + found[0].length;
        break;
      }
    }
    const one = quantityAt(text, place, vocabulary);
    if (!one) return null;
    const isOpen = comparison === "" || comparison === "=" || comparison === "..";
    const to = isOpen && matchAt(TO, text, one.end);
    const other = to && quantityAt(text, one.end + to[0].length, vocabulary);
    if (other) {
      const [low, high] = one.value <= other.value ? [one, other] : [other, one];
      const isMixed = one.units && other.units && one.symbol !== other.symbol;
      if (!isMixed) {
        const dash = low.value < 0 ? " to " : "–";
        return {
          end: other.end,
          units: other.units ?? one.units,
          low: low.value,
          high: high.value,
          words: (unit) => `${low.written}${dash}${high.written}${unit}`,
        };
      }
      return mixedRange(one, other);
    }
    if (comparison === "..") return null;
    return { ...interval(comparison, one), end: one.end, units: one.units, isAlone: comparison === "" };
  }

  function quantityAt(text, at, vocabulary) {
    const number = numberAt(text, at);
    if (!number) return null;
    const found = vocabulary.unitsAt(text, number.end);
    const end = found?.end ?? number.end;
    if (!found && !endsWord(text, end)) return null;
    return { ...number, end, units: found?.units ?? null, symbol: found?.units[0].symbol ?? "" };
  }

  /* "500 pm to 2 nm" */
  function mixedRange(one, other) {
    const unit = other.units[0];
    const same = one.units.find(({ dimension }) => dimension === unit.dimension);
    if (!same) return null;
    const first = tidy((one.value * same.factor + same.offset - unit.offset) / unit.factor);
    const [low, high] = first <= other.value ? [first, other.value] : [other.value, first];
    return {
      end: other.end,
      units: [unit],
      low,
      high,
      words: () => `${one.written} ${one.symbol} – ${other.written} ${other.symbol}`,
    };
  }

  function interval(comparison, { value, step, written }) {
    const words = (sign) => (unit) => `${sign}${written}${unit}`;
    switch (comparison) {
      case "<":
        return { low: -Infinity, high: value, highOpen: true, words: words("< ") };
      case "<=":
        return { low: -Infinity, high: value, words: words("≤ ") };
      case ">":
        return { low: value, high: Infinity, lowOpen: true, words: words("> ") };
      case ">=":
        return { low: value, high: Infinity, words: words("≥ ") };
      case "~":
        return { low: value - Math.abs(value) / 10, high: value + Math.abs(value) / 10, words: words("≈ ") };
      default:
        return { low: value - step / 2, high: value + step / 2, words: words("") };
    }
  }

  /* A number with what it is of: "pixel < 1 nm", "magnification > 50k", "200 kV". A number alone is but a word. */
  function numberItemAt(text, at, vocabulary) {
    let unclear = null;
    for (const end of namesAt(text, at)) {
      const fields = vocabulary.fieldsNamed(text.slice(at, end));
      const condition = fields.length
        ? conditionAt(text, end + matchAt(/\s*/y, text, end)[0].length, vocabulary, true)
        : null;
      const item = condition && numberItem(condition, fields, vocabulary);
      if (item) return { ...item, from: at, to: condition.end };
      if (condition && !condition.units) unclear ??= unclearItem(text, at, condition.end);
    }
    const condition = unclear ? null : conditionAt(text, at, vocabulary, false);
    if (!condition) return unclear;
    if (condition.units) return { ...numberItem(condition, null, vocabulary), from: at, to: condition.end };
    return condition.isAlone ? null : unclearItem(text, at, condition.end);
  }

  /* Ends of the words that may name a field, the longest name first. */
  function namesAt(text, at) {
    const ends = [];
    let end = at;
    while (ends.length < MOST_NAME_WORDS) {
      const word = matchAt(/\s*\p{L}[\p{L}-]*/uy, text, end);
      if (!word) break;
      end += word[0].length;
      ends.push(end);
    }
    return ends.reverse();
  }

  const unclearItem = (text, from, to) => ({
    kind: "unclear",
    label: `${text.slice(from, to).trim()}: of which unit?`,
    from,
    to,
  });

  function numberItem(condition, named, vocabulary) {
    const { units } = condition;
    if (units) {
      for (const unit of units) {
        const fields = (named ?? vocabulary.fields).filter(({ dimension }) => dimension === unit.dimension);
        if (fields.length) {
          const what = named || fields.length === 1 ? listed(fields) : `Any ${vocabulary.dimensions[unit.dimension]}`;
          return {
            kind: "number",
            label: `${what} ${condition.words(gap(unit.symbol))}`,
            fields: fields.map((field) => bounds(field, condition, unit, vocabulary)),
          };
        }
      }
      return null;
    }
    if (!named || new Set(named.map(({ unit }) => unit.symbol)).size > 1) return null;
    return {
      kind: "number",
      label: `${listed(named)} ${condition.words(gap(named[0].unit.symbol))}`,
      fields: named.map((field) => bounds(field, condition, field.unit, vocabulary)),
    };
  }

  const gap = (symbol) => (symbol === "" || symbol === "°" ? symbol : `\u00a0${symbol}`);

  const listed = (fields) =>
    fields.length > 3
      ? `${fields[0].display} or one of ${fields.length - 1} more`
      : fields.map(({ display }) => display).join(" or ");

  function bounds(field, { low, high, lowOpen = false, highOpen = false }, unit, vocabulary) {
    const [least, most] = [low, high].map((end) =>
      Number.isFinite(end) ? vocabulary.convert(end, unit, field.unit) : end,
    );
    const spare = (end, isOpen) => (isOpen || !Number.isFinite(end) ? 0 : Math.abs(end) * SLACK);
    return {
      name: field.name,
      low: least - spare(least, lowOpen),
      high: most + spare(most, highOpen),
      lowOpen,
      highOpen,
    };
  }

  /* ---- Dates ---- */

  const day = (year, month, date) => Date.UTC(year, month - 1, date) / DAY;
  const isDay = (year, month, date) =>
    new Date(day(year, month, date) * DAY).toISOString().startsWith(`${year}-${pad(month)}-${pad(date)}`);
  const pad = (number) => String(number).padStart(2, "0");
  const dayText = (number) => new Date(number * DAY).toISOString().slice(0, 10);
  const parts = (number) => dayText(number).split("-").map(Number);
  const monthOf = (name) => MONTHS.findIndex((month) => month.startsWith(name.slice(0, 3).toLowerCase())) + 1;

  const YEAR = "(?:19|20)\\d\\d";
  const NAMED_MONTH = `(${MONTHS.map((name) => `${name.slice(0, 3)}(?:${name.slice(3)})?`).join("|")}|sept)\\.?`;
  const BOUND = "(?![\\p{L}\\p{N}_])";
  const wholeDay = (year, month, date) =>
    [year, month, date].every(Number.isFinite) && isDay(year, month, date)
      ? [day(year, month, date), day(year, month, date) + 1]
      : null;
  const wholeMonth = (year, month) =>
    month >= 1 && month <= 12 ? [day(year, month, 1), day(year, month + 1, 1)] : null;
  const wholeYear = (year) => [day(year, 1, 1), day(year + 1, 1, 1)];

  const CALENDAR = [
    [`(${YEAR})-(\\d\\d)-(\\d\\d)${BOUND}`, ([, y, m, d]) => wholeDay(+y, +m, +d)],
    [`(${YEAR})-(\\d\\d)${BOUND}(?!-\\d)`, ([, y, m]) => wholeMonth(+y, +m)],
    [`(\\d{1,2})\\.(\\d{1,2})\\.(${YEAR})${BOUND}`, ([, d, m, y]) => wholeDay(+y, +m, +d)],
    [`(\\d{1,2})\\.?\\s+${NAMED_MONTH}\\s+(${YEAR})${BOUND}`, ([, d, m, y]) => wholeDay(+y, monthOf(m), +d)],
    [`${NAMED_MONTH}\\s+(\\d{1,2}),?\\s+(${YEAR})${BOUND}`, ([, m, d, y]) => wholeDay(+y, monthOf(m), +d)],
    [`${NAMED_MONTH}\\s+(${YEAR})${BOUND}`, ([, m, y]) => wholeMonth(+y, monthOf(m))],
    [`(${YEAR})${BOUND}(?!-(?!${YEAR}${BOUND})[\\p{L}\\p{N}]|\\.[\\p{L}\\p{N}])`, ([, y]) => wholeYear(+y)],
    [`today${BOUND}`, (_, now) => [now, now + 1]],
    [`yesterday${BOUND}`, (_, now) => [now - 1, now]],
    [
      `(this|last)\\s+(week|month|year)${BOUND}`,
      ([, which, what], now) => running(what, now, which === "last" ? 1 : 0),
    ],
    [
      `(?:last|past)\\s+(\\d{1,4})\\s+(day|week|month|year)s?${BOUND}`,
      ([, many, what], now) => [back(what, now + 1, +many), now + 1],
    ],
  ].map(([pattern, read]) => [new RegExp(pattern, "iyu"), read]);

  const DATE_WORD = /(since|from|after|before|until|till|by|in|on|between)\s+/iy;
  const DATE_TO = /\s*(?:\.\.\.?|…|–|—)\s*|\s+(?:to|until|till|and|-)\s+|-(?=(?:19|20)\d\d(?!\d))/iy;

  function running(what, now, ago) {
    const [year, month] = parts(now);
    if (what === "year") return wholeYear(year - ago);
    if (what === "month") return [day(year, month - ago, 1), day(year, month - ago + 1, 1)];
    const monday = now - ((now + 3) % 7) - 7 * ago;
    return [monday, monday + 7];
  }

  function back(what, from, many) {
    const [year, month, date] = parts(from);
    if (what === "year") return day(year - many, month, date);
    if (what === "month") return day(year, month - many, date);
    return from - many * (what === "week" ? 7 : 1);
  }

  function calendarAt(text, at, now) {
    for (const [pattern, read] of CALENDAR) {
      const found = matchAt(pattern, text, at);
      const days =
        found &&
        read(
          found.map((part) => part?.toLowerCase()),
          now,
        );
      if (days) return { first: days[0], end: days[1], to: at + found[0].length };
    }
    return null;
  }

  function dateItemAt(text, at, now) {
    const word = matchAt(DATE_WORD, text, at);
    const how = word?.[1].toLowerCase();
    const one = calendarAt(text, at + (word?.[0].length ?? 0), now);
    if (!one) return null;
    const to = (!how || how === "between" || how === "from") && matchAt(DATE_TO, text, one.to);
    const other = to && calendarAt(text, one.to + to[0].length, now);
    if (other) return dateItem(at, other.to, Math.min(one.first, other.first), Math.max(one.end, other.end));
    switch (how) {
      case "since":
      case "from":
        return dateItem(at, one.to, one.first, Infinity);
      case "after":
        return dateItem(at, one.to, one.end, Infinity);
      case "before":
        return dateItem(at, one.to, -Infinity, one.first);
      case "until":
      case "till":
      case "by":
        return dateItem(at, one.to, -Infinity, one.end);
      case "between":
        return null;
      default:
        return dateItem(at, one.to, one.first, one.end);
    }
  }

  function dateItem(from, to, first, end) {
    const last = end - 1;
    let label = `${first === -Infinity ? "until" : `${dayText(first)} –`} ${end === Infinity ? "" : dayText(last)}`;
    if (end === Infinity) label = `since ${dayText(first)}`;
    else if (first === last) label = dayText(first);
    return { kind: "date", label, first, end, from, to };
  }

  /* ---- All of it ---- */

  /* Items of a query; "today" is the day, since 1970, that "last month" counts from. */
  function parse(text, vocabulary, today) {
    const items = [];
    let at = 0;
    while (at < text.length) {
      const blank = matchAt(/\s+/y, text, at);
      if (blank) {
        at += blank[0].length;
        continue;
      }
      const number = numberItemAt(text, at, vocabulary);
      const date = number?.kind === "number" ? null : dateItemAt(text, at, today);
      const item = phraseAt(text, at) ?? date ?? number ?? wordAt(text, at);
      if (item.kind !== "words" || /[\p{L}\p{N}]/u.test(item.term)) items.push(item);
      at = item.to;
    }
    return items;
  }

  function phraseAt(text, at) {
    const found = matchAt(/["“”„]([^"“”„]*)["“”„]?/y, text, at);
    return found && { kind: "words", term: fold(found[1].trim()), from: at, to: at + found[0].length };
  }

  function wordAt(text, at) {
    const [word] = matchAt(/\S+/y, text, at);
    return { kind: "words", term: fold(word.replace(/^[,;(]+|[,;).]+$/g, "")), from: at, to: at + word.length };
  }

  window.NexusQuery = { Vocabulary, dayText, fold, parse };
})();
