import { expect, it } from "vitest";
import { oneAtATime } from "../src/live";

function counted() {
  const ends: (() => void)[] = [];
  const run = oneAtATime(() => new Promise<void>((resolve) => ends.push(resolve)));
  return { ends, run };
}

it("makes one more of all calls that come while one is under way", async () => {
  const { ends, run } = counted();
  const first = run();
  void run();
  void run();
  expect(ends.length).toBe(1);
  ends[0]!();
  await Promise.resolve();
  await Promise.resolve();
  expect(ends.length).toBe(2);
  ends[1]!();
  await first;
  expect(ends.length).toBe(2);
});

it("can be called again after a failure", async () => {
  let calls = 0;
  const run = oneAtATime(async () => {
    calls += 1;
    if (calls === 1) throw new Error("away");
  });
  await expect(run()).rejects.toThrow("away");
  await run();
  expect(calls).toBe(2);
});
