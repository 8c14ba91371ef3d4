// What can be asked of the service. Every function throws a Problem (see client.js).

import { ask, fetched } from "./client.js";

/**
 * @typedef {import("../types").EnhancementTaskResponse} EnhancementTaskResponse
 * @typedef {import("../types").EnhancementTaskStatusResponse} EnhancementTaskStatusResponse
 * @typedef {import("../types").VideoResponse} VideoResponse
 * @typedef {import("../types").Filter} Filter
 */

/** @template T @typedef {import("../types").Page<T>} Page */

const ENHANCEMENTS = "ai/enhance-and-script";
const VIDEOS = "videos";

/**
 * Have a photo enhanced and a script written; answers at once with the task, to be followed by its stream.
 * @param {Blob} file
 * @param {string} [description]
 * @param {{duration?: number, language?: string, key?: string}} [options]  `key`: sent again, it brings the same task
 * @returns {Promise<EnhancementTaskResponse>}
 */
export function enhanceAndGenerateScriptAsync(file, description = "", { duration = 4, language = "en", key } = {}) {
  const form = new FormData();
  form.append("user_description", description);
  form.append("duration", String(duration));
  form.append("language", language);
  form.append("file", file);
  return ask(`${ENHANCEMENTS}-async`, { method: "POST", form, headers: key ? { "Idempotency-Key": key } : {} });
}

/** The short task, for polling. @param {number} id @returns {Promise<EnhancementTaskStatusResponse>} */
export const getEnhancementStatus = (id) => ask(`${ENHANCEMENTS}/${id}/status`);

/** The whole task. @param {number} id @returns {Promise<EnhancementTaskResponse>} */
export const getEnhancement = (id) => ask(`${ENHANCEMENTS}/${id}`);

/** @param {Filter} [filter] @returns {Promise<Page<EnhancementTaskResponse>>} */
export const listEnhancements = (filter) => ask(ENHANCEMENTS + query(filter));

/** @param {number} id @returns {Promise<EnhancementTaskStatusResponse>} */
export const cancelEnhancement = (id) => ask(`${ENHANCEMENTS}/${id}/cancel`, { method: "POST" });

/** @param {number} id @returns {Promise<EnhancementTaskResponse>} */
export const retryEnhancement = (id) => ask(`${ENHANCEMENTS}/${id}/retry`, { method: "POST" });

/** @param {number} id @returns {Promise<null>} */
export const deleteEnhancement = (id) => ask(`${ENHANCEMENTS}/${id}`, { method: "DELETE" });

/**
 * Have a video made, of a finished enhancement or of words alone.
 * @param {{enhancementId?: number, prompt?: string, duration?: number, language?: string}} order
 * @returns {Promise<VideoResponse>}
 */
export function generateVideo({ enhancementId, ...order }) {
  return ask(`${VIDEOS}/generate`, { method: "POST", json: { enhancement_id: enhancementId, ...order } });
}

/** @param {number} id @returns {Promise<VideoResponse>} */
export const getVideo = (id) => ask(`${VIDEOS}/${id}`);

/** @param {Filter} [filter] @returns {Promise<Page<VideoResponse>>} */
export const listVideos = (filter) => ask(VIDEOS + query(filter));

/** @param {number} id @returns {Promise<VideoResponse>} */
export const cancelVideo = (id) => ask(`${VIDEOS}/${id}/cancel`, { method: "POST" });

/** @param {number} id @returns {Promise<VideoResponse>} */
export const retryVideo = (id) => ask(`${VIDEOS}/${id}/retry`, { method: "POST" });

/** @param {number} id @returns {Promise<null>} */
export const deleteVideo = (id) => ask(`${VIDEOS}/${id}`, { method: "DELETE" });

/**
 * @param {string} email
 * @param {string} password
 * @returns {Promise<{access_token: string, token_type: "bearer", expires_in: number}>}
 */
export const signIn = (email, password) => ask("auth/login", { method: "POST", json: { email, password } });

/** A file by a path or a link of a task. @param {string} link @returns {Promise<Blob>} */
export const openFile = async (link) => (await fetched(link)).blob();

/** @param {Filter} [filter] */
function query(filter = {}) {
  const given = Object.entries(filter).filter(([, value]) => value != null);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}
