// Matrix multiplication as GPUs compute it, by every kernel and plan of native/cuda/gemm, beside sums in F64. Unused elements of the
// factors' columns are NaN and those of the product must stay; memory beyond the matrices cannot be touched.

import assert from "node:assert/strict";
import { cudaTest, kernels } from "./cuda-emulation.js";
import { Elements, roundingOf, type ElementType } from "./numbers.js";

interface Operand {
  data: Float32Array | Uint16Array;
  ld: number;
  stride: number;
  pointers?: boolean;
  misalignment?: number;
}

interface Problem {
  transposeA: boolean;
  transposeB: boolean;
  m: number;
  n: number;
  k: number;
  batch: number;
  alpha: number;
  beta: number;
  typeAB: ElementType;
  typeC: ElementType;
  tf32: boolean;
  computeCapability: number;
  multiprocessors: number;
  a: Operand;
  b: Operand;
  c: Operand;
}

interface Gemm {
  /** The first is that which is chosen. */
  gemmPlans(problem: Problem): string[];
  gemm(problem: Problem, plan: string): number;
}

type Random = () => number;
const integer = (random: Random, least: number, most: number) => least + Math.floor(random() * (most - least + 1));
const oneOf = <T>(random: Random, of: readonly T[]) => of[Math.floor(random() * of.length)]!;

interface Options {
  m: number;
  n: number;
  k: number;
  typeAB: ElementType;
  typeC?: ElementType;
  transposeA?: boolean;
  transposeB?: boolean;
  tf32?: boolean;
  batch?: number;
  alpha?: number;
  beta?: number;
  /** Columns begin at multiples of 16 bytes. */
  aligned?: boolean;
  pointers?: boolean;
  /** Of A and B: all members have the same. */
  sharedA?: boolean;
  sharedB?: boolean;
  misalignment?: number;
  computeCapability?: number;
  /** Values that are put in the factors at drawn places. */
  special?: number[];
}

/** A problem with fresh numbers, and what its product is. */
class Case {
  readonly problem: Problem;
  private readonly a: Elements;
  private readonly b: Elements;
  private readonly c: Elements;
  private readonly before: Elements;

  constructor(
    private readonly random: Random,
    options: Options,
  ) {
    const { m, n, k, typeAB, batch = 1, beta = 0, aligned = true } = options;
    const { transposeA = true, transposeB = false, typeC = typeAB } = options;
    const operand = (type: ElementType, rows: number, columns: number, shared: boolean) => {
      const step = aligned ? 16 / (type === "f32" ? 4 : 2) : 1;
      const ld = Math.ceil(Math.max(rows, 1) / step) * step + step * integer(random, 0, 2);
      const stride = shared ? 0 : ld * columns + step * integer(random, 0, 2);
      const count = rows === 0 || columns === 0 ? 0 : (batch - 1) * stride + (columns - 1) * ld + rows;
      const elements = new Elements(type, count);
      for (let i = 0; i < count; i++) elements.set(i, NaN);
      const { pointers = false, misalignment = 0 } = options;
      return { elements, operand: { data: elements.data, ld, stride, pointers, misalignment } };
    };
    const sizeA = transposeA ? ([k, m] as const) : ([m, k] as const);
    const sizeB = transposeB ? ([n, k] as const) : ([k, n] as const);
    const a = operand(typeAB, ...sizeA, options.sharedA ?? false);
    const b = operand(typeAB, ...sizeB, options.sharedB ?? false);
    const c = operand(typeC, m, n, false);
    const fill = ({ elements, operand }: typeof a, [rows, columns]: readonly [number, number]) => {
      for (let member = 0; member < (operand.stride === 0 ? 1 : batch); member++) {
        for (let column = 0; column < columns; column++) {
          for (let row = 0; row < rows; row++)
            elements.set(member * operand.stride + column * operand.ld + row, 2 * random() - 1);
        }
      }
      for (const value of options.special ?? []) {
        const place = integer(random, 0, columns - 1) * operand.ld + integer(random, 0, rows - 1);
        elements.set(integer(random, 0, batch - 1) * operand.stride + place, value);
      }
    };
    fill(a, sizeA);
    fill(b, sizeB);
    // What C has before is poison, unless it counts.
    if (beta !== 0) fill({ ...c, operand: c.operand }, [m, n]);
    this.a = a.elements;
    this.b = b.elements;
    this.c = c.elements;
    this.before = new Elements(typeC, c.elements.count);
    this.before.data.set(c.elements.data);
    this.problem = {
      transposeA,
      transposeB,
      m,
      n,
      k,
      batch,
      alpha: options.alpha ?? 1,
      beta,
      typeAB,
      typeC,
      tf32: options.tf32 ?? false,
      computeCapability: options.computeCapability ?? 90,
      multiprocessors: 6,
      a: a.operand,
      b: b.operand,
      c: c.operand,
    };
  }

  plans(): string[] {
    return kernels<Gemm>().gemmPlans(this.problem);
  }

  /** Computes and compares all, or `share` of, the elements. */
  check(plan: string, share = 1): void {
    const { problem } = this;
    this.c.data.set(this.before.data);
    const title = `${plan}, ${problem.typeAB} to ${problem.typeC}, ${problem.m} x ${problem.n} x ${problem.k}`;
    assert.equal(kernels<Gemm>().gemm(problem, plan), 0, title);
    const used = new Uint8Array(this.c.count);
    // Of what is written. Factors of F32 may lose the bits that TF32 has not; sums are rounded with each instruction.
    const lost = problem.typeAB === "f32" && !plan.includes("simt") ? 2 ** -9 : 0;
    for (let member = 0; member < problem.batch; member++) {
      for (let column = 0; column < problem.n; column++) {
        for (let row = 0; row < problem.m; row++) {
          const place = member * problem.c.stride + column * problem.c.ld + row;
          used[place] = 1;
          if (share < 1 && this.random() > share) continue;
          let sum = 0;
          let size = 0;
          for (let i = 0; i < problem.k; i++) {
            const product = this.factorA(member, row, i) * this.factorB(member, i, column);
            sum += product;
            size += Math.abs(product);
          }
          const already = problem.beta === 0 ? 0 : problem.beta * this.before.get(place);
          const expected = problem.alpha * sum + already;
          const got = this.c.get(place);
          if (!Number.isFinite(expected)) {
            assert.ok(Object.is(got, expected), `${title}: (${row}, ${column}) is ${got} instead of ${expected}`);
            continue;
          }
          const allowed =
            (size * Math.abs(problem.alpha) + Math.abs(already)) * (2 ** -21 + lost) +
            Math.abs(expected) * roundingOf[problem.typeC] +
            1e-7;
          assert.ok(
            Math.abs(got - expected) <= allowed,
            `${title}, member ${member}: (${row}, ${column}) is ${got} instead of ${expected}`,
          );
        }
      }
    }
    for (let i = 0; i < this.c.count; i++)
      if (used[i] === 0) assert.equal(this.c.data[i], this.before.data[i], `${title}: wrote between its columns, ${i}`);
  }

  private factorA(member: number, row: number, i: number): number {
    const { transposeA, a } = this.problem;
    return this.a.get(member * a.stride + (transposeA ? row * a.ld + i : i * a.ld + row));
  }

  private factorB(member: number, i: number, column: number): number {
    const { transposeB, b } = this.problem;
    return this.b.get(member * b.stride + (transposeB ? i * b.ld + column : column * b.ld + i));
  }
}

describe("cuda gemm", function () {
  this.timeout(180000);

  // As weights and activations are multiplied.
  for (const typeAB of ["f16", "bf16", "f32"] as const) {
    for (const computeCapability of [90, 75]) {
      if (computeCapability === 75 && typeAB !== "f16") continue;
      cudaTest(`cuda gemm: ${typeAB} by every plan for sm_${computeCapability}`, (random) => {
        const one = new Case(random, {
          m: integer(random, 130, 200),
          n: integer(random, 17, 140),
          k: integer(random, 65, 330),
          typeAB,
          typeC: oneOf(random, [typeAB, "f32"]),
          tf32: true,
          computeCapability,
        });
        // Each tile whole, and in one number of parts.
        const tiles = new Map<string, string[]>();
        for (const plan of new Set(one.plans())) {
          const tile = plan.replace(/ splits.*/, "");
          tiles.set(tile, [...(tiles.get(tile) ?? []), plan]);
        }
        for (const plans of tiles.values()) {
          one.check(plans[0]!, 0.05);
          if (plans.length > 1) one.check(oneOf(random, plans.slice(1)), 0.05);
        }
      });
    }
  }

  cudaTest("cuda gemm: drawn problems by drawn plans", (random) => {
    for (let i = 0; i < 60; i++) {
      const typeAB = oneOf(random, ["f16", "bf16", "f32"] as const);
      const batch = oneOf(random, [1, 1, 1, 3]);
      const size = () => (random() < 0.3 ? integer(random, 1, 8) : integer(random, 9, 150));
      const one = new Case(random, {
        m: size(),
        n: size(),
        k: size(),
        typeAB,
        typeC: oneOf(random, [typeAB, "f32"]),
        transposeA: random() < 0.6,
        transposeB: random() < 0.3,
        tf32: random() < 0.7,
        batch,
        alpha: oneOf(random, [1, 1, -0.5]),
        beta: oneOf(random, [0, 0, 1, 0.25]),
        aligned: random() < 0.6,
        pointers: batch > 1 && random() < 0.3,
        sharedA: batch > 1 && random() < 0.2,
        sharedB: batch > 1 && random() < 0.2,
        misalignment: random() < 0.2 ? (typeAB === "f32" ? 4 : 2) * integer(random, 1, 3) : 0,
        computeCapability: oneOf(random, [75, 80, 90, 90]),
      });
      one.check(oneOf(random, one.plans()), 0.2);
    }
  });

  cudaTest("cuda gemm: NaN and infinity come out where they have to", (random) => {
    for (const typeAB of ["f16", "bf16", "f32"] as const) {
      const one = new Case(random, { m: 70, n: 40, k: 90, typeAB, tf32: true, special: [NaN, Infinity, -Infinity] });
      const plans = one.plans();
      for (let i = 0; i < 5; i++) one.check(oneOf(random, plans));
      one.check("simt");
    }
  });
});
