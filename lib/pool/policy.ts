// Which models have to go so that another one fits. Pure.

/** Bytes by device. */
export type Bytes = Readonly<Record<string, number>>;

/** A model that is loaded, or on its way. */
export interface Resident {
  name: string;
  /** What it takes. */
  bytes: Bytes;
  /** In use: it cannot go. */
  isBusy: boolean;
  /** When it was used last, in any unit. */
  lastUsed: number;
}

/** Whom to unload, which may be nobody; or to wait for one in use, and what is lacking; `"never"`: it does not fit alone either. */
export type Decision = { unload: string[] } | { waitFor: string[] } | "never";

/**
 * Makes room for `wanted` within `capacity`: those go that were not used the longest, and only those that take what is
 * lacking. A device without a capacity has any.
 */
export function makeRoom(wanted: Bytes, capacity: Bytes, residents: readonly Resident[]): Decision {
  const devices = Object.keys(wanted).filter((device) => (wanted[device] ?? 0) > 0);
  const room = (device: string) => capacity[device] ?? Infinity;
  if (devices.some((device) => (wanted[device] ?? 0) > room(device))) return "never";

  const lacking = (gone: ReadonlySet<string>) =>
    devices.filter((device) => {
      const staying = residents.filter(({ name }) => !gone.has(name));
      return sum(staying, device) + (wanted[device] ?? 0) > room(device);
    });
  const gone = new Set<string>();
  const idle = residents.filter(({ isBusy }) => !isBusy).sort((a, b) => a.lastUsed - b.lastUsed);
  for (const { name, bytes } of idle) {
    if (lacking(gone).some((device) => (bytes[device] ?? 0) > 0)) gone.add(name);
  }
  if (lacking(gone).length > 0) return { waitFor: lacking(new Set()) };
  // Small ones that went before a large one did all the work.
  for (const { name } of idle.toReversed()) {
    const without = new Set(gone);
    if (without.delete(name) && lacking(without).length === 0) gone.delete(name);
  }
  return { unload: [...gone] };
}

function sum(residents: readonly Resident[], device: string): number {
  return residents.reduce((total, { bytes }) => total + (bytes[device] ?? 0), 0);
}
