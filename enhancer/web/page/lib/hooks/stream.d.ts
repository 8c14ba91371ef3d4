/** Milliseconds: before the first new attempt, the longest pause, how long a stream may say nothing. */
export declare const PACE: {
    retry: number;
    longest: number;
    silence: number;
    quiet: number;
};
/** Whether nothing comes after this. @param {{status: string}} task */
export declare const isFinal: ({ status }: {
    status: string;
}) => boolean;
/**
 * Follow a task until its end.
 * @param {import("../types").Following} following
 * @returns {() => void} stops it
 */
export declare function follow({ address, load, snapshot, onEvent, onConnection, onExtra, onLost }: import("../types").Following): () => void;
