/** Say where the service is and who calls. @param {Partial<import("../types").Connection>} given */
export declare function configure(given: Partial<import("../types").Connection>): void;
/** What time it is at the service, in milliseconds since 1970. */
export declare const now: () => number;
/** An answer that is an error: `code` is stable, `message` a sentence for people, `status` 0 when none came. */
export declare class Problem extends Error {
    code: string;
    status: number;
    retryAfter: number | null;
    /**
     * @param {number} status
     * @param {{code?: string, detail?: string, errors?: {field: string, message: string}[]}} body
     * @param {number | null} [retryAfter] seconds
     */
    constructor(status: number, { code, detail, errors }: {
        code?: string;
        detail?: string;
        errors?: {
            field: string;
            message: string;
        }[];
    }, retryAfter?: number | null);
    /** Whether the same call may well succeed later. */
    get passing(): boolean;
}
/**
 * An address under the service as we reach it: its links are made with the name in its own settings.
 * @param {string} link a path under the interface, or a link to a stream or a file
 */
export declare function here(link: string): string;
/**
 * The answer of a call, as it is. Throws a Problem.
 * @param {string} path
 * @param {{method?: string, json?: object, form?: FormData, headers?: Record<string, string>}} [options]
 * @returns {Promise<Response>}
 */
export declare function fetched(path: string, { method, json, form, headers }?: {
    method?: string;
    json?: object;
    form?: FormData;
    headers?: Record<string, string>;
}): Promise<Response>;
/**
 * The JSON of an answer; null when it has none. Throws a Problem.
 * @param {Parameters<typeof fetched>} call
 * @returns {Promise<any>}
 */
export declare function ask(...call: Parameters<typeof fetched>): Promise<any>;
