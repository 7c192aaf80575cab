// Memory, limits and containers, as Linux shows them in several places.

import assert from "node:assert/strict";
import fc from "fast-check";
import { parseCgroups, parseMounts, readContainer } from "../../lib/machine/container.js";
import { mayLockAll, parseLimits, parseMemInfo, readMemory } from "../../lib/machine/memory.js";
import { driverOf, findPciGpus } from "../../lib/machine/pci.js";
import { recordedMachine } from "../support/recorded-machine.js";

const GIB = 2 ** 30;
/** What version 1 writes for no limit. */
const NO_LIMIT = "9223372036854771712\n";

const V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n";
const v1Mount = (controller: string, root: string, point = `/sys/fs/cgroup/${controller}`) =>
  `35 31 0:32 ${root} ${point} ro,nosuid shared:9 master:8 - cgroup cgroup rw,${controller}\n`;

describe("control groups", () => {
  it("of version 2 in a container: its own are at the root of the mount", () => {
    const files = recordedMachine({
      "/.dockerenv": "",
      "/proc/self/cgroup": "0::/\n",
      "/proc/self/mountinfo": V2_MOUNT,
      "/sys/fs/cgroup/memory.max": `${4 * GIB}\n`,
      "/sys/fs/cgroup/memory.high": "max\n",
      "/sys/fs/cgroup/memory.current": `${3 * GIB}\n`,
      "/sys/fs/cgroup/memory.stat": `anon ${GIB}\nfile ${2 * GIB}\ninactive_file ${GIB}\nactive_file 0\n`,
      "/sys/fs/cgroup/cpu.max": "150000 100000\n",
    });
    assert.deepEqual(readContainer(files, {}), {
      runtime: "docker",
      cgroupVersion: 2,
      memoryLimit: 4 * GIB,
      memoryUsed: 2 * GIB, // The kernel drops inactive pages of files at once.
      cpuQuota: 1.5,
    });
  });

  it("of version 2 on a host: the tightest of a group and those above it", () => {
    const slice = "/sys/fs/cgroup/user.slice/user-1000.slice";
    const files = recordedMachine({
      "/proc/self/cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n",
      "/proc/self/mountinfo": `22 1 8:1 / / rw - ext4 /dev/sda1 rw\n${V2_MOUNT}`,
      [`${slice}/session-2.scope/memory.max`]: "max\n",
      [`${slice}/session-2.scope/cpu.max`]: "max 100000\n",
      [`${slice}/memory.max`]: `${16 * GIB}\n`,
      [`${slice}/memory.high`]: `${8 * GIB}\n`,
      [`${slice}/memory.current`]: `${GIB}\n`,
      [`${slice}/cpu.max`]: "400000 100000\n",
      "/sys/fs/cgroup/user.slice/cpu.max": "200000 50000\n",
    });
    assert.deepEqual(readContainer(files, {}), {
      ...{ cgroupVersion: 2, memoryLimit: 8 * GIB, memoryUsed: GIB, cpuQuota: 4 },
    });
  });

  it("of version 1 in a container: the mount is the group, which has its name of outside", () => {
    const id = "/docker/0123456789abcdef";
    const files = recordedMachine({
      "/proc/self/cgroup": `11:memory:${id}\n4:cpu,cpuacct:${id}\n1:name=systemd:${id}\n`,
      "/proc/self/mountinfo": v1Mount("memory", id) + v1Mount("cpu", id, "/sys/fs/cgroup/cpu,cpuacct"),
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": `${2 * GIB}\n`,
      "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${GIB}\n`,
      "/sys/fs/cgroup/memory/memory.stat": `cache 5\ninactive_file 1\ntotal_inactive_file ${GIB / 2}\n`,
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    });
    assert.deepEqual(readContainer(files, {}), {
      ...{ runtime: "docker", cgroupVersion: 1, memoryLimit: 2 * GIB, memoryUsed: GIB / 2, cpuQuota: 0.5 },
    });
  });

  it("of version 1 without limits: none", () => {
    const files = recordedMachine({
      "/proc/self/cgroup": "9:memory:/user.slice\n3:cpu:/user.slice\n0::/\n",
      "/proc/self/mountinfo":
        v1Mount("memory", "/") + v1Mount("cpu", "/") + V2_MOUNT.replace("/cgroup ", "/cgroup/unified "),
      "/sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes": NO_LIMIT,
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT,
      "/sys/fs/cgroup/cpu/user.slice/cpu.cfs_quota_us": "-1\n",
      "/sys/fs/cgroup/cpu/user.slice/cpu.cfs_period_us": "100000\n",
    });
    assert.deepEqual(readContainer(files, {}), { cgroupVersion: 1 });
  });

  it("of a Kubernetes pod", () => {
    const files = recordedMachine({
      "/proc/self/cgroup": "0::/../../kubepods-burstable-pod42.slice/cri-containerd-1.scope\n",
      "/proc/self/mountinfo": V2_MOUNT,
      "/sys/fs/cgroup/memory.max": `${GIB}\n`,
      "/sys/fs/cgroup/cpu.max": "1000 100000\n",
    });
    assert.deepEqual(readContainer(files, { KUBERNETES_SERVICE_HOST: "10.0.0.1" }), {
      ...{ runtime: "kubernetes", cgroupVersion: 2, memoryLimit: GIB, memoryUsed: 0, cpuQuota: 0.01 },
    });
  });

  it("are nothing on systems that have none", () => {
    assert.deepEqual(readContainer(recordedMachine({}), {}), {});
  });

  it("are read from mounts with spaces in their paths", () => {
    assert.deepEqual(parseMounts("1 2 0:3 / /mnt/with\\040space\\134 rw - cgroup2 none rw\n\nnonsense"), [
      { root: "/", point: "/mnt/with space\\", type: "cgroup2", options: ["rw"] },
    ]);
    assert.deepEqual(parseCgroups("12:cpu,cpuacct:/a:b\n0::/\n"), [
      { controllers: ["cpu", "cpuacct"], path: "/a:b" },
      { controllers: [], path: "/" },
    ]);
  });

  it("limit to the tightest of any chain of groups", () => {
    const group = fc.record({
      limit: fc.option(fc.integer({ min: 1, max: 1000 }), { nil: undefined }),
      quota: fc.option(fc.integer({ min: 1, max: 64 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(group, { minLength: 1, maxLength: 6 }), (chain) => {
        const files: Record<string, string> = { "/proc/self/mountinfo": V2_MOUNT };
        let folder = "";
        for (const { limit, quota } of chain) {
          folder += "/g";
          files[`/sys/fs/cgroup${folder}/memory.max`] = `${limit ?? "max"}\n`;
          files[`/sys/fs/cgroup${folder}/cpu.max`] = `${quota === undefined ? "max" : quota * 1000} 1000\n`;
        }
        files["/proc/self/cgroup"] = `0::${folder}\n`;
        const { memoryLimit = Infinity, cpuQuota = Infinity } = readContainer(recordedMachine(files), {});
        assert.equal(memoryLimit, Math.min(...chain.map(({ limit }) => limit ?? Infinity)));
        assert.equal(cpuQuota, Math.min(...chain.map(({ quota }) => quota ?? Infinity)));
      }),
    );
  });
});

describe("containers", () => {
  for (const [name, files, environment, expected] of [
    ["Podman", { "/run/.containerenv": "" }, {}, "podman"],
    ["systemd-nspawn", { "/run/systemd/container": "systemd-nspawn\n" }, {}, "systemd-nspawn"],
    ["LXC, which tells its processes", {}, { container: "lxc" }, "lxc"],
    ["containerd", { "/proc/self/cgroup": "2:cpu:/system.slice/containerd.service/x\n" }, {}, "containerd"],
    ["no container", { "/proc/self/cgroup": "0::/init.scope\n" }, {}, undefined],
  ] as [string, Record<string, string>, NodeJS.ProcessEnv, string | undefined][]) {
    it(`are recognized: ${name}`, () =>
      assert.equal(readContainer(recordedMachine(files), environment).runtime, expected));
  }
});

describe("memory", () => {
  const LIMITS = [
    "Limit                     Soft Limit           Hard Limit           Units     ",
    "Max cpu time              unlimited            unlimited            seconds   ",
    "Max open files            1024                 524288               files     ",
    "Max locked memory         8388608              unlimited            bytes     ",
    "Max nice priority         0                    0                    ",
  ].join("\n");

  it("is read from /proc and /sys", () => {
    const files = recordedMachine({
      "/proc/meminfo":
        "MemTotal:       24684084 kB\nMemFree:         1000000 kB\nSwapTotal:       2097148 kB\nSwapFree:        2097148 kB\n" +
        "Active(anon):       1616 kB\nHugePages_Total:       3\n",
      "/proc/self/limits": LIMITS,
      "/proc/self/status": "Name:\tnode\nCapEff:\t00000000a80425fb\n",
      "/proc/sys/vm/overcommit_memory": "2\n",
      "/sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
    });
    assert.deepEqual(readMemory(files, { total: 1, available: 12345 }), {
      total: 24684084 * 1024,
      available: 12345,
      swapTotal: 2097148 * 1024,
      swapFree: 2097148 * 1024,
      transparentHugePages: "never",
      overcommit: "strict",
      lockLimit: 8388608,
    });
  });

  it("is what Node.js says on other systems", () => {
    assert.deepEqual(readMemory(recordedMachine({}), { total: 8, available: 4 }), { total: 8, available: 4 });
  });

  it("is counted in bytes", () => {
    const info = parseMemInfo("MemTotal:       24684084 kB\nHugePages_Total:       3\nActive(anon):  7 kB\n");
    assert.deepEqual([...info], [["MemTotal", 25276502016], ["HugePages_Total", 3], ["Active(anon)", 7168]]); // prettier-ignore
  });

  it("has limits, unless the process is privileged", () => {
    const limits = parseLimits(LIMITS);
    assert.deepEqual(limits.get("Max open files"), { soft: 1024, hard: 524288 });
    assert.deepEqual(limits.get("Max cpu time"), { soft: Infinity, hard: Infinity });
    assert.equal(mayLockAll("CapInh:\t0\nCapEff:\t000001ffffffffff\n"), true, "root");
    assert.equal(mayLockAll("CapEff:\t00000000a80425fb\n"), false, "root in Docker");
    assert.equal(mayLockAll(""), false);
  });
});

describe("GPUs on the PCI bus", () => {
  const device = (id: string, vendor: string, kind: string) => ({
    [`/sys/bus/pci/devices/${id}/vendor`]: `${vendor}\n`,
    [`/sys/bus/pci/devices/${id}/class`]: `${kind}\n`,
  });
  const files = recordedMachine(
    {
      ...device("0000:c1:00.0", "0x10de", "0x030200"), // a 3D controller without a display
      ...device("0000:03:00.0", "0x1002", "0x030000"),
      ...device("0000:04:00.0", "0x1a03", "0x030000"), // the console of a server
      ...device("0000:05:00.0", "0x8086", "0x020000"), // a network card
      "/sys/module/nvidia/version": "580.95.05\n",
    },
    {
      "/sys/bus/pci/devices/0000:c1:00.0/driver": "../../../../bus/pci/drivers/nvidia",
      "/sys/bus/pci/devices/0000:03:00.0/driver": "../../../../bus/pci/drivers/amdgpu",
    },
  );

  it("are found by their class and vendor", () => {
    assert.deepEqual(findPciGpus(files), [
      { id: "0000:03:00.0", vendor: "AMD", driver: "amdgpu" },
      { id: "0000:c1:00.0", vendor: "NVIDIA", driver: "nvidia" },
    ]);
    assert.deepEqual(findPciGpus(recordedMachine({})), []);
  });

  it("have a driver with a version, where it has one", () => {
    assert.equal(driverOf(files, "0000:c1:00.0-v1"), "nvidia 580.95.05");
    assert.equal(driverOf(files, "0000:03:00.0"), "amdgpu");
    assert.equal(driverOf(files, "0000:05:00.0"), undefined);
  });
});
