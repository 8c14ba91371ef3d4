export type StreamEvent = import("../types").StreamEvent;
export type Options = import("../types").StreamOptions<any>;
export type Kind = {
    load: (id: number) => Promise<any>;
    reached: (task: any) => object;
};
/**
 * @param {Kind} kind
 * @param {Options} options
 */
export declare function useTaskStream(kind: Kind, options: Options): {
    messages: any[];
    isConnected: boolean;
    lastMessage: any;
    preview: import("../types").Preview | null;
    script: string;
};
