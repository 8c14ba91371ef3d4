export type EnhancementTaskResponse = import("../types").EnhancementTaskResponse;
export type EnhancementTaskStatusResponse = import("../types").EnhancementTaskStatusResponse;
export type VideoResponse = import("../types").VideoResponse;
export type Filter = import("../types").Filter;
export type Page<T> = import("../types").Page<T>;
/**
 * Have a photo enhanced and a script written; answers at once with the task, to be followed by its stream.
 * @param {Blob} file
 * @param {string} [description]
 * @param {{duration?: number, language?: string, key?: string}} [options]  `key`: sent again, it brings the same task
 * @returns {Promise<EnhancementTaskResponse>}
 */
export declare function enhanceAndGenerateScriptAsync(file: Blob, description?: string, { duration, language, key }?: {
    duration?: number;
    language?: string;
    key?: string;
}): Promise<EnhancementTaskResponse>;
/** The short task, for polling. @param {number} id @returns {Promise<EnhancementTaskStatusResponse>} */
export declare const getEnhancementStatus: (id: number) => Promise<EnhancementTaskStatusResponse>;
/** The whole task. @param {number} id @returns {Promise<EnhancementTaskResponse>} */
export declare const getEnhancement: (id: number) => Promise<EnhancementTaskResponse>;
/** @param {Filter} [filter] @returns {Promise<Page<EnhancementTaskResponse>>} */
export declare const listEnhancements: (filter?: Filter) => Promise<Page<EnhancementTaskResponse>>;
/** @param {number} id @returns {Promise<EnhancementTaskStatusResponse>} */
export declare const cancelEnhancement: (id: number) => Promise<EnhancementTaskStatusResponse>;
/** @param {number} id @returns {Promise<EnhancementTaskResponse>} */
export declare const retryEnhancement: (id: number) => Promise<EnhancementTaskResponse>;
/** @param {number} id @returns {Promise<null>} */
export declare const deleteEnhancement: (id: number) => Promise<null>;
/**
 * Have a video made, of a finished enhancement or of words alone.
 * @param {{enhancementId?: number, prompt?: string, duration?: number, language?: string}} order
 * @returns {Promise<VideoResponse>}
 */
export declare function generateVideo({ enhancementId, ...order }: {
    enhancementId?: number;
    prompt?: string;
    duration?: number;
    language?: string;
}): Promise<VideoResponse>;
/** @param {number} id @returns {Promise<VideoResponse>} */
export declare const getVideo: (id: number) => Promise<VideoResponse>;
/** @param {Filter} [filter] @returns {Promise<Page<VideoResponse>>} */
export declare const listVideos: (filter?: Filter) => Promise<Page<VideoResponse>>;
/** @param {number} id @returns {Promise<VideoResponse>} */
export declare const cancelVideo: (id: number) => Promise<VideoResponse>;
/** @param {number} id @returns {Promise<VideoResponse>} */
export declare const retryVideo: (id: number) => Promise<VideoResponse>;
/** @param {number} id @returns {Promise<null>} */
export declare const deleteVideo: (id: number) => Promise<null>;
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
