export declare function findNvcc(env?: NodeJS.ProcessEnv): string | undefined;
export declare function ensureCudaToolkit(): string;
