import type { Device } from "../devices.js";
import { inspectMachine, type Machine } from "../inspect-machine.js";
import type { CpuFacts } from "../machine/cpu.js";
import type { NvidiaGpu } from "../machine/nvidia.js";
import { formatBytes, formatSpeed, formatTable } from "./format.js";
import { toJson } from "./to-json.js";

export interface DevicesFlags {
  measure?: boolean;
  disk?: string;
  json?: boolean;
}

export async function devices(options: DevicesFlags): Promise<void> {
  const { measure = false, disk } = options;
  const machine = await inspectMachine({ memoryBandwidth: measure, ...(disk !== undefined && { disk }) });
  console.log(options.json ? toJson(machine) : render(machine));
}

/** The devices as a table, then what is known of each. */
export function render({ devices: found, cpu, nvidia, diskBandwidth }: Machine): string {
  const rows = found.map(({ name, backend, type, memoryFree, memoryTotal, description }) => [
    name,
    backend,
    type,
    formatBytes(memoryTotal),
    formatBytes(memoryFree),
    description,
  ]);
  const sections = [formatTable([["NAME", "BACKEND", "TYPE", "MEMORY", "FREE", "DESCRIPTION"], ...rows])];
  sections.push(section("CPU", describeCpu(cpu)));
  for (const device of found.filter(({ pciId, driver }) => pciId !== undefined || driver !== undefined))
    sections.push(section(device.name, describeDevice(device)));
  const used = new Set(found.map((device) => device.nvidia?.index));
  for (const gpu of nvidia.gpus.filter(({ index }) => !used.has(index))) {
    const title = `NVIDIA GPU ${gpu.index}, which no loaded backend uses`;
    sections.push(section(title, [["Name", gpu.name], ["PCI", gpu.pciId], ...describeNvidia(gpu)]));
  }
  if (diskBandwidth !== undefined) sections.push(section("Disk", [["Read at", formatSpeed(diskBandwidth)]]));
  return sections.join("\n\n");
}

type Rows = [label: string, value: string | undefined][];

function section(title: string, rows: Rows): string {
  const known = rows.filter((row): row is [string, string] => row[1] !== undefined && row[1] !== "");
  return `${title}\n${formatTable(known.map(([label, value]) => [`  ${label}`, value]))}`;
}

function describeCpu(cpu: CpuFacts): Rows {
  const { model, sockets, physicalCores, logicalCores, usableCores, numaNodes, caches } = cpu;
  const counts = [
    sockets !== undefined && `${sockets} socket${sockets === 1 ? "" : "s"}`,
    physicalCores !== undefined && `${physicalCores} cores`,
    `${logicalCores} threads`,
    usableCores < logicalCores && `${usableCores} usable`,
    numaNodes !== undefined && numaNodes > 1 && `${numaNodes} NUMA nodes`,
  ].filter((count) => typeof count === "string");
  const short = { data: "d", instruction: "i", unified: "" } as const;
  return [
    ["Processor", model],
    ["Cores", counts.join(", ")],
    ["Instructions", cpu.instructionSets?.join(", ")],
    ["Compiled for", cpu.compiledFor.join(", ")],
    ["Caches", caches?.map(({ level, type, size }) => `L${level}${short[type]} ${formatBytes(size)}`).join(", ")],
    ["Memory read at", cpu.memoryBandwidth === undefined ? undefined : formatSpeed(cpu.memoryBandwidth)],
  ];
}

function describeDevice({ pciId, driver, nvidia }: Device): Rows {
  return [["PCI", pciId], ["Driver", driver], ...(nvidia ? describeNvidia(nvidia) : [])];
}

function describeNvidia(gpu: NvidiaGpu): Rows {
  const { computeCapability, memory, memoryBandwidth, utilization, power, powerLimit, temperature, clocks } = gpu;
  const { throttleReasons, eccErrors, pcie, persistenceMode, migMode, processes } = gpu;
  const watts = [power, powerLimit].filter((value) => value !== undefined).map((value) => value.toFixed(0));
  const ofMost = (now: number | undefined, most: number | undefined) =>
    now === undefined ? undefined : `${now}${most === undefined ? "" : ` of ${most}`}`;
  const onOff = (flag: boolean | undefined) => (flag === undefined ? undefined : flag ? "on" : "off");
  return [
    ["Error", gpu.error],
    ["Compute capability", computeCapability],
    ["Memory", memory && `${formatBytes(memory.used)} of ${formatBytes(memory.total)} in use`],
    ["Memory bandwidth", memoryBandwidth === undefined ? undefined : `${formatSpeed(memoryBandwidth)} at most`],
    ["Busy", utilization && `${utilization.gpu} %, memory ${utilization.memory} %`],
    ["Power", watts.length === 0 ? undefined : `${watts.join(" of ")} W`],
    ["Temperature", temperature === undefined ? undefined : `${temperature} °C`],
    ["Clock", suffixed(ofMost(clocks?.sm, clocks?.maxSm), "MHz")],
    ["Memory clock", suffixed(ofMost(clocks?.memory, clocks?.maxMemory), "MHz")],
    ["Slowed down by", throttleReasons && (throttleReasons.join(", ") || "nothing")],
    ["Memory errors", eccErrors && `${eccErrors.corrected} corrected, ${eccErrors.uncorrected} not`],
    ["PCIe generation", ofMost(pcie?.generation, pcie?.maxGeneration)],
    ["PCIe lanes", ofMost(pcie?.lanes, pcie?.maxLanes)],
    ["Persistence mode", onOff(persistenceMode)],
    ["Multi-instance", onOff(migMode)],
    [
      "Processes",
      processes
        ?.map(({ pid, memory: used }) => (used === undefined ? String(pid) : `${pid} (${formatBytes(used)})`))
        .join(", "),
    ],
  ];
}

function suffixed(text: string | undefined, unit: string): string | undefined {
  return text === undefined ? undefined : `${text} ${unit}`;
}
