import { expect, it } from "vitest";
import { describeEvent } from "../src/describe";

it("tells an event by its meter, its log and its code, and the further columns apart", () => {
  const event = { at_utc_s: 1, log: "power_quality", code: 85, detail: "magnitude=253" };
  expect(describeEvent({ ...event, meter: "t01-m003" })).toEqual([
    "t01-m003 · power quality 85",
    "magnitude=253",
  ]);
});
