// What the service tells, as it comes over the wire (see /docs).

export type Status = "pending" | "processing" | "completed" | "failed" | "cancelled";

/** What both kinds of task have. */
interface Task {
  id: number;
  status: Status;
  message: string;
  error_message: string | null;
  error_code: string | null;
  /** Seconds since the work began. */
  processing_time: number | null;
  /** ISO 8601, UTC. */
  updated_at: string;
  /** Its place among those that wait, 1 is the next; null when it does not wait or nobody knows. */
  queue_position?: number | null;
  /** How long it will take from now; null when nobody knows. */
  eta_seconds?: number | null;
}

interface Owned {
  user_id: number;
  /** Of the advertisement, seconds. */
  duration: number;
  language: string;
  created_at: string;
  completed_at: string | null;
  status_url: string;
  /** With a token for this stream alone, which expires within the hour. */
  stream_url: string;
  thumbnail_url?: string | null;
}

export interface EnhancementTaskStatusResponse extends Task {
  /** 0..100 */
  progress: number;
  enhanced_image_url: string | null;
  script: string | null;
  product_analysis: string | null;
  tokens_used: number;
}

export interface EnhancementTaskResponse extends EnhancementTaskStatusResponse, Owned {
  original_image_path: string;
  user_description: string;
  image_model: string;
  script_model: string;
}

export interface VideoResponse extends Task, Owned {
  enhancement_id: number | null;
  prompt: string;
  /** 0..9 */
  step: number;
  /** Of the rendering, percent; null while the provider does not say. */
  progress: number | null;
  video_url: string | null;
  poster_url: string | null;
  width: number | null;
  height: number | null;
  video_model: string;
}

/** One page of a list, the newest first. */
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export interface Filter {
  status?: Status;
  /** A page's `next_cursor`. */
  cursor?: string;
  limit?: number;
}

/** What can be asked about the tasks of a kind. */
export interface Tasks<T> {
  /** With a fresh `stream_url`. */
  get(id: number): Promise<T>;
  list(filter?: Filter): Promise<Page<T>>;
  /** A task that waits has ended then; one that runs ends a little later. */
  cancel(id: number): Promise<unknown>;
  /** Of a failed or cancelled task; what was paid for is kept. */
  retry(id: number): Promise<T>;
  /** With its events and files; not while it runs. */
  remove(id: number): Promise<null>;
}

/** Who calls, and where. */
export interface Connection {
  /** Where the interface begins; for pages of the service itself the default is right. */
  apiUrl: string | URL;
  /** The account token, asked for before every call. */
  token: () => string | null;
  /** Told when the service knows the caller no more. */
  onUnauthenticated: (problem: Error) => void;
}

/** An event of a stream. */
export interface StreamEvent {
  status: Status;
  progress: number | null;
  message?: string;
  /** Seconds since 1970. */
  timestamp: number;
  error?: string;
  error_code?: string;
  queue_position?: number | null;
  eta_seconds?: number | null;
}

export interface EnhancementStreamMessage extends StreamEvent {
  /** 0..100; -1: it failed. */
  progress: number;
  enhanced_image_url?: string | null;
  script?: string | null;
  product_analysis?: string | null;
}

export interface VideoStreamMessage extends StreamEvent {
  /** 0..9; -1: it failed. */
  step: number;
  video_url?: string | null;
  thumbnail_url?: string | null;
  poster_url?: string | null;
}

/** A partial image of an enhancement, by a link that lives shortly. */
export interface Preview {
  image_url: string;
  step: number | string;
  timestamp: number;
}

export interface StreamOptions<Message> {
  /** null: nothing is followed. */
  taskId: number | null;
  /** The task's `stream_url`, when it is at hand: saves asking for it. */
  streamUrl?: string | null;
  /** Told once, with the event that carries the result. */
  onComplete?: (result: Message) => void;
  /** Told once: it failed, was cancelled (see `event.status`), or cannot be followed any more. */
  onError?: (error: string, event: any) => void;
  /** The first argument is the percentage of an enhancement, and the step of a video. */
  onProgress?: (progress: number, message: string, event: Message) => void;
}

/** How a task is followed: see stream.js. */
export interface Following {
  /** The stream's scoped address, when it is known. */
  address?: string | null;
  /** The task as it is, with a fresh address. */
  load: () => Promise<any>;
  /** The event that would tell what the task tells. */
  snapshot: (task: any) => StreamEvent;
  /** Each event once; after one that is final nothing comes. */
  onEvent: (event: any) => void;
  onConnection: (connected: boolean) => void;
  onExtra: (name: "preview" | "script", data: any) => void;
  /** The task cannot be followed any more. */
  onLost: (problem: any) => void;
}

interface TaskStream<Message> {
  /** Every event so far, in order, each once. */
  messages: Message[];
  lastMessage: Message | null;
  isConnected: boolean;
}

export interface EnhancementStream extends TaskStream<EnhancementStreamMessage> {
  /** 0..100; stays where it was when the task fails. */
  progress: number;
  /** The latest partial image. */
  preview: Preview | null;
  /** What has been written so far. */
  script: string;
}

export interface VideoStream extends TaskStream<VideoStreamMessage> {
  /** 0..9; stays where it was when the video fails. */
  step: number;
  /** Of the rendering, percent. */
  progress: number;
}
