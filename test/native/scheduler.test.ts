import assert from "node:assert/strict";
import fc from "fast-check";
import { type Pending, testing } from "./testing-addon.js";

/** `prompts`: of the budget, for prompts beside streams; by default all of it. */
const planStep = (requests: Pending[], budget: number, start: number, prompts = budget): number[] =>
  testing.planStep(requests, { tokens: budget, prompts }, start);

const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);

const decoder = fc.constant<Pending>({ tokens: 1, decoding: true });
const prompt = fc.record({ tokens: fc.integer({ min: 1, max: 600 }), decoding: fc.constant(false) });
const requests = fc.array(fc.oneof(decoder, prompt), { maxLength: 20 });
const budget = fc.integer({ min: 1, max: 1000 });
const start = fc.oneof(fc.nat(50), fc.maxSafeNat());

/** Which of `requests` got tokens in the `steps` steps from `start` on; none of them makes progress. */
function servedWithin(steps: number, requests: Pending[], budget: number, start: number): boolean[] {
  const served = requests.map(() => false);
  for (let step = 0; step < steps; ++step) {
    planStep(requests, budget, start + step).forEach((grant, i) => (served[i] ||= grant > 0));
  }
  return served;
}

describe("PlanStep", () => {
  it("answers for every request, never more than it needs or the budget has", () => {
    fc.assert(
      fc.property(requests, budget, start, (requests, budget, start) => {
        const grants = planStep(requests, budget, start);
        assert.equal(grants.length, requests.length);
        grants.forEach((grant, i) => assert(grant >= 0 && grant <= requests[i]!.tokens));
        assert(sum(grants) <= budget);
      }),
    );
  });

  it("uses the whole budget when there is work for it", () => {
    fc.assert(
      fc.property(requests, budget, start, (requests, budget, start) => {
        const work = sum(requests.map(({ tokens }) => tokens));
        assert.equal(sum(planStep(requests, budget, start)), Math.min(work, budget));
      }),
    );
  });

  it("serves every stream before any prompt", () => {
    fc.assert(
      fc.property(requests, budget, start, (requests, budget, start) => {
        const grants = planStep(requests, budget, start);
        const streams = requests.filter(({ decoding }) => decoding).length;
        const toStreams = sum(grants.filter((_, i) => requests[i]!.decoding));
        assert.equal(toStreams, Math.min(streams, budget));
        if (toStreams < streams) assert.equal(sum(grants), toStreams, "a prompt went before a stream");
      }),
    );
  });

  it("cuts at most one prompt short, so that prompts finish one after another", () => {
    fc.assert(
      fc.property(requests, budget, start, (requests, budget, start) => {
        const grants = planStep(requests, budget, start);
        assert(grants.filter((grant, i) => grant > 0 && grant < requests[i]!.tokens).length <= 1);
      }),
    );
  });

  it("begins with the request that `start` points at", () => {
    fc.assert(
      fc.property(fc.array(prompt, { minLength: 1, maxLength: 20 }), budget, start, (requests, budget, start) => {
        const first = start % requests.length;
        assert.equal(planStep(requests, budget, start)[first], Math.min(requests[first]!.tokens, budget));
      }),
    );
  });

  it("starves nobody among equals, even with one token a step", () => {
    const equals = fc.oneof(
      fc.array(decoder, { minLength: 1, maxLength: 20 }),
      fc.array(prompt, { minLength: 1, maxLength: 20 }),
    );
    fc.assert(
      fc.property(equals, fc.integer({ min: 1, max: 30 }), fc.nat(1000), (requests, budget, start) => {
        assert(servedWithin(requests.length, requests, budget, start).every(Boolean));
      }),
    );
  });

  it("keeps prompts to their budget beside streams, and only there", () => {
    fc.assert(
      fc.property(requests, budget, start, fc.integer({ min: 1, max: 300 }), (requests, budget, start, prompts) => {
        const grants = planStep(requests, budget, start, prompts);
        const streams = requests.filter(({ decoding }) => decoding).length;
        const toPrompts = sum(grants.filter((_, i) => !requests[i]!.decoding));
        const wanted = sum(requests.filter(({ decoding }) => !decoding).map(({ tokens }) => tokens));
        const left = budget - Math.min(streams, budget);
        assert.equal(toPrompts, Math.min(wanted, left, streams > 0 ? prompts : budget));
      }),
    );
  });

  it("starves nobody when the budget has more tokens than there are streams", () => {
    fc.assert(
      fc.property(requests, fc.nat(30), fc.nat(1000), (requests, spare, start) => {
        const budget = requests.filter(({ decoding }) => decoding).length + 1 + spare;
        assert(servedWithin(requests.length, requests, budget, start).every(Boolean));
      }),
    );
  });

  it("brings every request to its end, streams and prompts together", () => {
    const jobs = fc.array(
      fc.record({ prompt: fc.integer({ min: 1, max: 40 }), output: fc.integer({ min: 1, max: 20 }) }),
      {
        minLength: 1,
        maxLength: 8,
      },
    );
    fc.assert(
      fc.property(jobs, fc.integer({ min: 1, max: 16 }), (jobs, budget) => {
        const live = jobs.map((job) => ({ ...job }));
        const work = sum(jobs.map((job) => job.prompt + job.output));
        let steps = 0;
        for (; live.length > 0; ++steps) {
          assert(steps <= work, "no progress");
          const grants = planStep(
            live.map(({ prompt }) => ({ tokens: prompt > 0 ? prompt : 1, decoding: prompt === 0 })),
            budget,
            steps,
          );
          assert(sum(grants) > 0);
          live.forEach((job, i) => (job[job.prompt > 0 ? "prompt" : "output"] -= grants[i]!));
          for (let i = live.length - 1; i >= 0; --i) if (live[i]!.output === 0) live.splice(i, 1);
        }
        assert(steps >= work / budget);
      }),
    );
  });

  it("counts to 2^32 without wrapping around", () => {
    const most = 2 ** 32 - 1;
    const long = { tokens: most, decoding: false };
    assert.deepEqual(planStep([long, long], most, 0), [most, 0]);
    assert.deepEqual(planStep([long, long, { tokens: 1, decoding: true }], most, 1), [0, most - 1, 1]);
  });

  const P = (tokens: number): Pending => ({ tokens, decoding: false });
  const D: Pending = { tokens: 1, decoding: true };
  const examples: [what: string, requests: Pending[], budget: number, start: number, grants: number[]][] = [
    ["nothing to do", [], 8, 3, []],
    ["a prompt longer than the budget", [P(100)], 8, 0, [8]],
    ["a prompt shorter than the budget", [P(5)], 8, 0, [5]],
    ["streams first, the prompt gets the rest", [P(100), D, D], 8, 0, [6, 1, 1]],
    ["a second prompt gets what the first leaves", [P(5), P(100)], 8, 0, [5, 3]],
    ["the turn of the second prompt", [P(5), P(100)], 8, 1, [0, 8]],
    ["more streams than budget", [D, D, D], 2, 0, [1, 1, 0]],
    ["more streams than budget, one step on", [D, D, D], 2, 1, [0, 1, 1]],
    ["more streams than budget, two steps on", [D, D, D], 2, 2, [1, 0, 1]],
    ["no budget left for a prompt", [P(5), D, D], 2, 0, [0, 1, 1]],
  ];
  for (const [what, requests, budget, start, grants] of examples) {
    it(`plans ${what}`, () => assert.deepEqual(planStep(requests, budget, start), grants));
  }
});
