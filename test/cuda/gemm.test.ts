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
  triangularSolve(problem: {
    aOnRight: boolean | undefined;
    upper: boolean | undefined;
    transpose: boolean | undefined;
    unitDiagonal: boolean | undefined;
    m: number;
    n: number;
    batch: number;
    alpha: number;
    a: Operand;
    b: Operand;
  }): number;
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

  cudaTest("cuda gemm: the plan that is chosen suits the problem, whatever it is", (random) => {
    for (let i = 0; i < 400; i++) {
      const typeAB = oneOf(random, ["f16", "bf16", "f32"] as const);
      const batch = oneOf(random, [1, 1, 2]);
      const size = () => Math.ceil(2 ** (random() * 9));
      const one = new Case(random, {
        m: size(),
        n: size(),
        k: 1,
        typeAB,
        typeC: oneOf(random, [typeAB, "f32"]),
        transposeA: random() < 0.7,
        transposeB: random() < 0.3,
        tf32: random() < 0.5,
        batch,
        beta: oneOf(random, [0, 1]),
        aligned: random() < 0.6,
        pointers: random() < 0.2,
        misalignment: random() < 0.2 ? (typeAB === "f32" ? 4 : 2) : 0,
        computeCapability: oneOf(random, [75, 80, 86, 89, 90, 100, 120]),
      });
      // The matrices' contents do not matter to the choice, nor, without them, does k.
      one.problem.k = Math.ceil(2 ** (random() * 14));
      const [chosen, ...suitable] = one.plans();
      assert.ok(suitable.includes(chosen!), `${chosen!} of ${suitable.join(", ")}`);
    }
  });

  cudaTest("cuda gemm: triangular systems", (random) => {
    for (let i = 0; i < 24; i++) {
      const [aOnRight, upper, transpose, unitDiagonal] = [3, 2, 1, 0].map((bit) => ((i >> bit) & 1) === 1);
      const [m, n, batch] = [integer(random, 1, 70), integer(random, 1, 70), integer(random, 1, 3)];
      const order = aOnRight ? n : m;
      const a = { ld: order + integer(random, 0, 3), stride: 0, data: new Float32Array(0), pointers: random() < 0.5 };
      const b = { ld: m + integer(random, 0, 3), stride: 0, data: new Float32Array(0), pointers: a.pointers };
      a.stride = a.ld * order + integer(random, 0, 3);
      b.stride = b.ld * n + integer(random, 0, 3);
      a.data = new Float32Array((batch - 1) * a.stride + (order - 1) * a.ld + order).fill(NaN);
      b.data = new Float32Array((batch - 1) * b.stride + (n - 1) * b.ld + m).fill(NaN);
      const alpha = oneOf(random, [1, -2]);
      for (let member = 0; member < batch; member++) {
        // The other triangle is NaN, and so is a diagonal that counts as ones.
        for (let column = 0; column < order; column++) {
          for (let row = 0; row < order; row++) {
            const place = member * a.stride + column * a.ld + row;
            if (row === column && !unitDiagonal) a.data[place] = 1 + random();
            else if (upper ? row < column : row > column) a.data[place] = (random() - 0.5) / 8;
          }
        }
        for (let column = 0; column < n; column++) {
          for (let row = 0; row < m; row++) b.data[member * b.stride + column * b.ld + row] = 2 * random() - 1;
        }
      }
      const before = b.data.slice();
      const problem = { aOnRight, upper, transpose, unitDiagonal, m, n, batch, alpha, a, b };
      assert.equal(kernels<Gemm>().triangularSolve(problem), 0);
      const elementOfA = (member: number, row: number, column: number) => {
        const [i, j] = transpose ? [column, row] : [row, column];
        if (i === j && unitDiagonal) return 1;
        return i === j || (upper ? i < j : i > j) ? a.data[member * a.stride + j * a.ld + i]! : 0;
      };
      const x = (member: number, row: number, column: number) => b.data[member * b.stride + column * b.ld + row]!;
      for (let member = 0; member < batch; member++) {
        for (let column = 0; column < n; column++) {
          for (let row = 0; row < m; row++) {
            let sum = 0;
            for (let k = 0; k < order; k++)
              sum += aOnRight
                ? x(member, row, k) * elementOfA(member, k, column)
                : elementOfA(member, row, k) * x(member, k, column);
            const expected = alpha * before[member * b.stride + column * b.ld + row]!;
            assert.ok(
              Math.abs(sum - expected) < 1e-4,
              `${JSON.stringify({ ...problem, a: 0, b: 0 })}: ${sum} ${expected}`,
            );
          }
        }
      }
      // What lies between the columns stays.
      b.data.forEach((value, place) => {
        const inColumn = (place % b.stride) % b.ld;
        if (inColumn >= m || place % b.stride >= b.ld * n) assert.ok(Number.isNaN(value));
      });
    }
  });
});
