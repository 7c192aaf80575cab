import assert from "node:assert/strict";
import { testing } from "./testing-addon.js";

/** Lets a governor compute for `seconds`, in stretches of 30 ms in which its threads together get at most `cores(time)`. */
function simulate(most: number, seconds: number, cores: (time: number) => number): { time: number; threads: number }[] {
  const wall = 0.03;
  const stretches: [number, number][] = [];
  const threads = [most];
  for (let time = 0; time < seconds; time += wall) {
    stretches.push([wall, wall * Math.min(threads.at(-1)!, cores(time))]);
    threads.push(testing.threadGovernor(most, stretches).at(-1)!);
  }
  return threads.map((count, i) => ({ time: i * wall, threads: count }));
}

const share = (run: { threads: number }[], threads: number) =>
  run.filter((moment) => moment.threads === threads).length / run.length;

describe("ThreadGovernor", () => {
  it("uses all threads while they get their cores, or nearly", () => {
    assert.equal(
      share(
        simulate(4, 10, () => 4),
        4,
      ),
      1,
    );
    assert.equal(
      share(
        simulate(4, 10, () => 3.8),
        4,
      ),
      1,
    );
  });

  it("uses one fewer beside a busy process, and tries again ever less often", () => {
    for (const most of [2, 4, 16]) {
      const run = simulate(most, 20, () => most - 0.5);
      assert.ok(share(run, most - 1) > 0.95, `${share(run, most - 1)}`);
      const tries = run.filter(({ threads }, i) => threads === most && run[i - 1]?.threads !== most).length;
      assert.ok(tries >= 4 && tries <= 7, `${tries}`);
    }
  });

  it("goes down at once when many cores are lost, and never below one", () => {
    assert.equal(simulate(16, 0.1, () => 4.4).at(-1)!.threads, 4);
    assert.ok(simulate(2, 5, () => 0.1).every(({ threads }) => threads >= 1));
  });

  it("comes back when the others are gone", () => {
    const run = simulate(2, 8, (time) => (time < 1 ? 1.5 : 2));
    assert.equal(run.find(({ time }) => time > 0.5)!.threads, 1);
    assert.equal(run.at(-1)!.threads, 2);
  });

  it("never says more than it may", () => {
    let random = 1;
    const cores = () => ((random = (random * 16807) % 2147483647) / 2147483647) * 8;
    for (const { threads } of simulate(8, 10, cores)) assert.ok(threads >= 1 && threads <= 8);
  });
});
