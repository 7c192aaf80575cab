/** Registers, bytes of stack, of spills, of static shared memory. */
export type KernelResources = [registers: number, stack: number, spills: number, shared: number];
export type ResourceTable = Record<string, Record<string, number[]>>;

export declare const ARCHITECTURES: string[];
export declare const NO_NVCC: string;
export declare function kernelFiles(): string[];
export declare function compileKernels(
  arch: string,
  options?: { files?: string[]; nvcc?: string },
): Promise<{ failures: string[]; resources: Record<string, KernelResources> }>;
export declare function compare(
  arch: string,
  resources: Record<string, number[]>,
  recorded?: ResourceTable,
): { failures: string[]; notes: string[] };
export declare function readTable(): ResourceTable;
export declare function parseReport(text: string): Record<string, KernelResources>;
