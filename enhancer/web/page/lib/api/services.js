// What can be asked of the service. Every call throws a Problem (see client.js).

import { ask, fetched } from "./client.js";

/**
 * Have a photo enhanced and a script written; answers at once with the task, to be followed by its stream.
 * @param {Blob} file
 * @param {string} [description]
 * @param {{duration?: number, language?: string, key?: string}} [options]  `key`: sent again, it brings the same task
 * @returns {Promise<import("../types").EnhancementTaskResponse>}
 */
export function enhanceAndGenerateScriptAsync(file, description = "", { duration = 4, language = "en", key } = {}) {
  const form = new FormData();
  form.append("user_description", description);
  form.append("duration", String(duration));
  form.append("language", language);
  form.append("file", file);
  return ask("ai/enhance-and-script-async", { method: "POST", form, headers: named(key) });
}

/**
 * The short task, for polling.
 * @param {number} id
 * @returns {Promise<import("../types").EnhancementTaskStatusResponse>}
 */
export const getEnhancementStatus = (id) => ask(`ai/enhance-and-script/${id}/status`);

/**
 * Have a video made of a finished enhancement; what is left out is as it says.
 * @param {{enhancementId: number, prompt?: string, duration?: number, language?: string, key?: string}} order
 * @returns {Promise<import("../types").VideoResponse>}
 */
export const generateVideo = ({ enhancementId, key, ...order }) =>
  ask("videos/generate", { method: "POST", json: { enhancement_id: enhancementId, ...order }, headers: named(key) });

/** @type {import("../types").Tasks<import("../types").EnhancementTaskResponse>} */
export const enhancements = tasks("ai/enhance-and-script");

/** @type {import("../types").Tasks<import("../types").VideoResponse>} */
export const videos = tasks("videos");

/**
 * @param {string} email
 * @param {string} password
 * @returns {Promise<{access_token: string, token_type: "bearer", expires_in: number}>}
 */
export const signIn = (email, password) => ask("auth/login", { method: "POST", json: { email, password } });

/** A file by a path or a link of a task. @param {string} link @returns {Promise<Blob>} */
export const openFile = async (link) => (await fetched(link)).blob();

/** @param {string} path @returns {import("../types").Tasks<any>} */
function tasks(path) {
  return {
    get: (id) => ask(`${path}/${id}`),
    list: (filter = {}) => ask(`${path}?${new URLSearchParams(JSON.parse(JSON.stringify(filter)))}`),
    cancel: (id) => ask(`${path}/${id}/cancel`, { method: "POST" }),
    retry: (id) => ask(`${path}/${id}/retry`, { method: "POST" }),
    remove: (id) => ask(`${path}/${id}`, { method: "DELETE" }),
  };
}

/** @param {string} [key] @returns {Record<string, string>} */
const named = (key) => (key ? { "Idempotency-Key": key } : {});
