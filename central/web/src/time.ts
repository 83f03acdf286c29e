/**
 * Time as the page shows it: UTC seconds inside, the town's local time outside.
 *
 * An interval is named by its end. Local times always carry their UTC offset, because one
 * hour of the year comes twice.
 */

export interface StoredDay {
  readonly day: string;
  readonly first_end_utc_s: number;
  readonly steps: number;
}

/** One place on the slider: a step of a stored day. */
export interface Moment {
  readonly index: number;
  readonly day: string;
  readonly step: number;
  readonly endUtcS: number;
}

/** All stored intervals of all days in a row; the slider's whole range. */
export class Timeline {
  readonly length: number;
  readonly #starts: number[] = [];
  readonly #days: StoredDay[];

  constructor(
    days: readonly StoredDay[],
    readonly intervalS: number,
    newestEndUtcS: number | null,
  ) {
    // A day that is still filling ends at the newest stored interval.
    this.#days = [...days]
      .sort((a, b) => a.first_end_utc_s - b.first_end_utc_s)
      .map((day) => {
        if (newestEndUtcS === null) return day;
        const filled = Math.floor((newestEndUtcS - day.first_end_utc_s) / intervalS) + 1;
        return { ...day, steps: Math.max(0, Math.min(day.steps, filled)) };
      })
      .filter((day) => day.steps > 0);
    let length = 0;
    for (const day of this.#days) {
      this.#starts.push(length);
      length += day.steps;
    }
    this.length = length;
  }

  get days(): readonly StoredDay[] {
    return this.#days;
  }

  at(index: number): Moment | null {
    if (this.length === 0) return null;
    const wanted = Math.min(this.length - 1, Math.max(0, Math.round(index)));
    let d = this.#days.length - 1;
    while (this.#starts[d]! > wanted) d--;
    const day = this.#days[d]!;
    const step = wanted - this.#starts[d]!;
    const endUtcS = day.first_end_utc_s + step * this.intervalS;
    return { index: wanted, day: day.day, step, endUtcS };
  }

  /** Index of the stored interval that ends at, or nearest to, a UTC time. */
  nearest(endUtcS: number): number {
    let best = 0;
    let distance = Infinity;
    this.#days.forEach((day, d) => {
      const raw = Math.round((endUtcS - day.first_end_utc_s) / this.intervalS);
      const step = Math.min(day.steps - 1, Math.max(0, raw));
      const off = Math.abs(day.first_end_utc_s + step * this.intervalS - endUtcS);
      if (off < distance) {
        distance = off;
        best = this.#starts[d]! + step;
      }
    });
    return best;
  }

  dayAfter(day: string): string | null {
    const at = this.#days.findIndex((d) => d.day === day);
    return this.#days[at + 1]?.day ?? null;
  }

  get firstEndUtcS(): number | null {
    return this.at(0)?.endUtcS ?? null;
  }

  get lastEndUtcS(): number | null {
    return this.at(this.length - 1)?.endUtcS ?? null;
  }
}

interface LocalParts {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
}

/** The wall clock of one time zone. */
export class TownClock {
  readonly #parts: Intl.DateTimeFormat;
  readonly #weekday: Intl.DateTimeFormat;
  readonly #date: Intl.DateTimeFormat;

  constructor(readonly timezone: string) {
    const zone = { timeZone: timezone } as const;
    this.#parts = new Intl.DateTimeFormat("en-GB", {
      ...zone,
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      hourCycle: "h23",
    });
    this.#weekday = new Intl.DateTimeFormat("en-GB", { ...zone, weekday: "short" });
    this.#date = new Intl.DateTimeFormat("en-GB", { ...zone, day: "numeric", month: "short" });
  }

  parts(utcS: number): LocalParts {
    const found: Record<string, number> = {};
    for (const part of this.#parts.formatToParts(utcS * 1000)) {
      if (part.type !== "literal") found[part.type] = Number(part.value);
    }
    return found as unknown as LocalParts;
  }

  /** Seconds that local time is ahead of UTC at this instant. */
  offsetS(utcS: number): number {
    const p = this.parts(utcS);
    const minute = Math.floor(utcS / 60) * 60;
    return Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute) / 1000 - minute;
  }

  offset(utcS: number): string {
    const s = this.offsetS(utcS);
    const a = Math.abs(s);
    return `UTC${s < 0 ? "−" : "+"}${two(Math.floor(a / 3600))}:${two(Math.floor(a / 60) % 60)}`;
  }

  weekday(utcS: number): string {
    return this.#weekday.format(utcS * 1000);
  }

  /** "7 Jan" */
  date(utcS: number): string {
    return this.#date.format(utcS * 1000);
  }

  /** "18:15" */
  time(utcS: number): string {
    const p = this.parts(utcS);
    return `${two(p.hour)}:${two(p.minute)}`;
  }

  /** "Thu 7 Jan 2016, 18:15 UTC+01:00" */
  full(utcS: number): string {
    return `${this.short(utcS)} ${this.offset(utcS)}`;
  }

  /** "Thu 7 Jan 2016, 18:15" */
  short(utcS: number): string {
    const p = this.parts(utcS);
    return `${this.weekday(utcS)} ${this.date(utcS)} ${p.year}, ${this.time(utcS)}`;
  }

  /** "2016-01-07T18:15", the value of a date-time field. */
  field(utcS: number): string {
    const p = this.parts(utcS);
    return `${p.year}-${two(p.month)}-${two(p.day)}T${two(p.hour)}:${two(p.minute)}`;
  }

  /**
   * The instant of a local "YYYY-MM-DDTHH:MM", or null when it is not one. A time that comes
   * twice (clocks go back) means the first; one that is skipped means an hour later.
   */
  parse(field: string): number | null {
    const match = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})/.exec(field);
    if (!match) return null;
    const [year, month, day, hour, minute] = match.slice(1).map(Number) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const wall = Date.UTC(year, month - 1, day, hour, minute) / 1000;
    const before = this.offsetS(wall - 86_400);
    const after = this.offsetS(wall + 86_400);
    for (const offset of [before, after]) {
      if (this.offsetS(wall - offset) === offset) return wall - offset;
    }
    return wall - before;
  }

  isMidnight(utcS: number): boolean {
    const p = this.parts(utcS);
    return p.hour === 0 && p.minute === 0;
  }
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
