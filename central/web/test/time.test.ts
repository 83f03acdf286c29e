import { describe, expect, it } from "vitest";
import { Timeline, TownClock } from "../src/time";

const QUARTER_S = 900;
const MARCH_29 = Date.UTC(2026, 2, 29) / 1000;
const DAYS = [
  { day: "2026-03-29", first_end_utc_s: MARCH_29 + QUARTER_S, steps: 96 },
  { day: "2026-03-28", first_end_utc_s: MARCH_29 - 86_400 + QUARTER_S, steps: 96 },
];

describe("the timeline", () => {
  it("lines up the stored days, oldest first", () => {
    const timeline = new Timeline(DAYS, QUARTER_S, null);
    expect(timeline.length).toBe(192);
    expect(timeline.at(0)).toEqual({
      index: 0,
      day: "2026-03-28",
      step: 0,
      endUtcS: MARCH_29 - 86_400 + QUARTER_S,
    });
    expect(timeline.at(96)?.day).toBe("2026-03-29");
    expect(timeline.dayAfter("2026-03-28")).toBe("2026-03-29");
    expect(timeline.dayAfter("2026-03-29")).toBeNull();
  });

  it("ends a filling day at the newest stored interval", () => {
    const timeline = new Timeline(DAYS, QUARTER_S, MARCH_29 + 3 * QUARTER_S);
    expect(timeline.length).toBe(99);
    expect(timeline.lastEndUtcS).toBe(MARCH_29 + 3 * QUARTER_S);
  });

  it("finds the stored interval that is nearest to an instant", () => {
    const timeline = new Timeline(DAYS, QUARTER_S, null);
    expect(timeline.nearest(MARCH_29 + QUARTER_S + 100)).toBe(96);
    expect(timeline.nearest(0)).toBe(0);
    expect(timeline.nearest(MARCH_29 * 2)).toBe(191);
  });

  it("has nothing to show while nothing is stored", () => {
    const timeline = new Timeline([], QUARTER_S, null);
    expect(timeline.at(0)).toBeNull();
    expect(timeline.lastEndUtcS).toBeNull();
  });
});

describe("the town's clock", () => {
  const clock = new TownClock("Europe/Berlin");

  it("shows local time with its offset on both sides of the change to summer time", () => {
    expect(clock.full(MARCH_29 + 59 * 60)).toBe("Sun 29 Mar 2026, 01:59 UTC+01:00");
    expect(clock.full(MARCH_29 + 60 * 60)).toBe("Sun 29 Mar 2026, 03:00 UTC+02:00");
  });

  it("reads back what it writes into the date-time field", () => {
    for (const hour of [0, 2, 12, 23]) {
      const utcS = MARCH_29 + hour * 3600 + 15 * 60;
      expect(clock.parse(clock.field(utcS))).toBe(utcS);
    }
  });

  it("takes the first of an hour that comes twice", () => {
    const first = Date.UTC(2026, 9, 25, 0, 30) / 1000;
    expect(clock.field(first)).toBe(clock.field(first + 3600));
    expect(clock.parse("2026-10-25T02:30")).toBe(first);
  });

  it("refuses what is not a date and time", () => {
    expect(clock.parse("yesterday")).toBeNull();
  });
});
