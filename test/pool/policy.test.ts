import assert from "node:assert/strict";
import fc from "fast-check";
import { makeRoom, type Bytes, type Resident } from "../../lib/pool/policy.js";

const DEVICES = ["CPU", "GPU0", "GPU1"];
const bytes = fc
  .tuple(fc.nat(10), fc.nat(10), fc.nat(10))
  .map((of): Bytes => Object.fromEntries(DEVICES.map((device, i) => [device, of[i] as number])));
const capacity = fc
  .tuple(fc.nat(30), fc.nat(30), fc.nat(30))
  .map((of): Bytes => Object.fromEntries(DEVICES.map((device, i) => [device, of[i] as number])));
const residents = fc
  .array(fc.tuple(bytes, fc.boolean(), fc.nat(1000)), { maxLength: 6 })
  .map((list) =>
    list.map(([taken, isBusy, lastUsed], i): Resident => ({ name: `m${i}`, bytes: taken, isBusy, lastUsed })),
  );
const total = (list: readonly Resident[], device: string) =>
  list.reduce((sum, one) => sum + (one.bytes[device] ?? 0), 0);
const fits = (wanted: Bytes, room: Bytes, list: readonly Resident[]) =>
  DEVICES.every((device) => !wanted[device] || total(list, device) + wanted[device] <= (room[device] ?? Infinity));

describe("makeRoom", () => {
  it("unloads idle models only, so that it fits, and none that could stay", () => {
    fc.assert(
      fc.property(bytes, capacity, residents, (wanted, room, list) => {
        const decision = makeRoom(wanted, room, list);
        if (decision === "never") {
          assert.ok(!fits(wanted, room, []));
          return;
        }
        assert.ok(fits(wanted, room, []));
        const busy = list.filter(({ isBusy }) => isBusy);
        if ("waitFor" in decision) {
          assert.ok(!fits(wanted, room, busy));
          assert.ok(decision.waitFor.length > 0);
          return;
        }
        const staying = list.filter(({ name }) => !decision.unload.includes(name));
        assert.ok(fits(wanted, room, staying));
        assert.ok(busy.every((one) => staying.includes(one)));
        for (const name of decision.unload) {
          const one = list.find((resident) => resident.name === name) as Resident;
          assert.ok(!fits(wanted, room, [...staying, one]), `${name} could stay`);
        }
      }),
      { numRuns: 3000 },
    );
  });

  it("prefers those that were used long ago", () => {
    const one = (name: string, size: number, lastUsed: number): Resident => ({
      name,
      bytes: { GPU0: size },
      isBusy: false,
      lastUsed,
    });
    assert.deepEqual(makeRoom({ GPU0: 4 }, { GPU0: 10 }, [one("new", 5, 2), one("old", 5, 1)]), { unload: ["old"] });
    assert.deepEqual(makeRoom({ GPU0: 4 }, { GPU0: 10 }, [one("old", 1, 1), one("new", 9, 2)]), { unload: ["new"] });
    assert.deepEqual(makeRoom({ GPU0: 4 }, { GPU0: 10 }, [one("a", 3, 1), one("b", 3, 2)]), { unload: [] });
    const elsewhere: Resident = { name: "cpu", bytes: { CPU: 9 }, isBusy: false, lastUsed: 0 };
    assert.deepEqual(makeRoom({ GPU0: 4 }, { GPU0: 5, CPU: 10 }, [elsewhere, one("a", 3, 1)]), { unload: ["a"] });
    assert.deepEqual(makeRoom({ GPU0: 4 }, { GPU0: 5 }, [{ ...one("a", 3, 1), isBusy: true }]), { waitFor: ["GPU0"] });
    assert.equal(makeRoom({ GPU0: 6 }, { GPU0: 5 }, []), "never");
  });
});
