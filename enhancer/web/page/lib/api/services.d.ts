/**
 * Have a photo enhanced and a script written; answers at once with the task, to be followed by its stream.
 * @param {Blob} file
 * @param {string} [description]
 * @param {{duration?: number, language?: string, key?: string}} [options]  `key`: sent again, it brings the same task
 * @returns {Promise<import("../types").EnhancementTaskResponse>}
 */
export declare function enhanceAndGenerateScriptAsync(file: Blob, description?: string, { duration, language, key }?: {
    duration?: number;
    language?: string;
    key?: string;
}): Promise<import("../types").EnhancementTaskResponse>;
/**
 * The short task, for polling.
 * @param {number} id
 * @returns {Promise<import("../types").EnhancementTaskStatusResponse>}
 */
export declare const getEnhancementStatus: (id: number) => Promise<import("../types").EnhancementTaskStatusResponse>;
/**
 * Have a video made of a finished enhancement; what is left out is as it says.
 * @param {{enhancementId: number, prompt?: string, duration?: number, language?: string, key?: string}} order
 * @returns {Promise<import("../types").VideoResponse>}
 */
export declare const generateVideo: ({ enhancementId, key, ...order }: {
    enhancementId: number;
    prompt?: string;
    duration?: number;
    language?: string;
    key?: string;
}) => Promise<import("../types").VideoResponse>;
/** @type {import("../types").Tasks<import("../types").EnhancementTaskResponse>} */
export declare const enhancements: import("../types").Tasks<import("../types").EnhancementTaskResponse>;
/** @type {import("../types").Tasks<import("../types").VideoResponse>} */
export declare const videos: import("../types").Tasks<import("../types").VideoResponse>;
/**
 * @param {string} email
 * @param {string} password
 * @returns {Promise<{access_token: string, token_type: "bearer", expires_in: number}>}
 */
export declare const signIn: (email: string, password: string) => Promise<{
    access_token: string;
    token_type: "bearer";
    expires_in: number;
}>;
/** A file by a path or a link of a task. @param {string} link @returns {Promise<Blob>} */
export declare const openFile: (link: string) => Promise<Blob>;
