export type StreamEvent = import("../types").StreamEvent;
export type Status = import("../types").Status;
export type Problem = import("../api/client.js").Problem;
export type Following = {
    /**
     * the stream's scoped address, when it is known
     */
    address?: string | null;
    /**
     * the task as it is, with a fresh address
     */
    load: () => Promise<any>;
    /**
     * the event that would tell what the task tells
     */
    snapshot: (task: any) => StreamEvent;
    /**
     * each event once; after one that is final nothing comes
     */
    onEvent: (event: any) => void;
    onConnection: (connected: boolean) => void;
    onExtra: (name: "preview" | "script", data: any) => void;
    /**
     * the task cannot be followed any more
     */
    onLost: (problem: Problem) => void;
};
/**
 * @typedef {import("../types").StreamEvent} StreamEvent
 * @typedef {import("../types").Status} Status
 * @typedef {import("../api/client.js").Problem} Problem
 *
 * @typedef {object} Following
 * @property {string | null} [address]  the stream's scoped address, when it is known
 * @property {() => Promise<any>} load  the task as it is, with a fresh address
 * @property {(task: any) => StreamEvent} snapshot  the event that would tell what the task tells
 * @property {(event: any) => void} onEvent  each event once; after one that is final nothing comes
 * @property {(connected: boolean) => void} onConnection
 * @property {(name: "preview" | "script", data: any) => void} onExtra
 * @property {(problem: Problem) => void} onLost  the task cannot be followed any more
 */
/** Milliseconds: before the first new attempt, the longest pause, how long a stream may say nothing. */
export declare const PACE: {
    retry: number;
    longest: number;
    silence: number;
    quiet: number;
};
/** Whether nothing comes after this. @param {{status: Status}} task */
export declare const isFinal: ({ status }: {
    status: Status;
}) => boolean;
/**
 * Follow a task until its end.
 * @param {Following} following
 * @returns {() => void} stops it
 */
export declare function follow({ address, load, snapshot, onEvent, onConnection, onExtra, onLost }: Following): () => void;
