// Amounts as text.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 3805696 -> "3.6 MiB" */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** 21476321280 -> "21.5 GB/s"; disks and memory are advertised in powers of ten. */
export function formatSpeed(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1e9).toFixed(1)} GB/s`;
}
