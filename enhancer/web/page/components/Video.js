// A video on its way and as a result.

import { html, names } from "./html.js";
import { Downloads, Facts, model } from "./Enhancement.js";
import { Failure, Progress } from "./Progress.js";
import { clock, t } from "../i18n/language.js";
import { here } from "../lib/api/client.js";
import { isFinal } from "../lib/hooks/stream.js";

const LAST = 9;

export function Video({ video, stream, onRetry, say }) {
  const { step, progress } = stream;
  const heading = video.status === "completed" ? "videoReady" : isFinal(video) ? "isVideo" : "generating";
  const rendering = step === 5 && progress > 0 ? progress : 0;
  return html`<section class="card" aria-labelledby="video-stage">
    <h2 id="video-stage" tabindex="-1">${t(heading)}</h2>
    ${!isFinal(video) && html`<${Progress} kind="video" task=${video} stream=${stream} say=${say}
        value=${((step + rendering / 100) / LAST) * 100} label=${t("step", { n: step })}
        mark=${(event) => (event.step === 5 && event.progress ? `5/9 ${event.progress}%` : `${event.step}/9`)}>
      <${Steps} at=${step} rendering=${rendering} />
    <//>`}
    ${video.status === "completed" && html`<${Result} video=${video} />`}
    ${["failed", "cancelled"].includes(video.status) && html`<${Failure} task=${video} onRetry=${onRetry} />`}
  </section>`;
}

const Steps = ({ at, rendering }) => html`<ol class="steps">
  ${Array.from({ length: LAST + 1 }, (_, step) => html`<li key=${step} class=${names(step < at && "done", step === at && "now")}
    aria-current=${step === at ? "step" : null}>
    ${t(`step${step}`)}${step === 5 && rendering ? ` ${rendering}%` : ""}
  </li>`)}
</ol>`;

function Result({ video }) {
  const [film, poster] = [here(video.video_url ?? ""), here(video.poster_url ?? video.thumbnail_url ?? "")];
  return html`
    <video controls playsinline preload="metadata" src=${film} poster=${poster} width=${video.width} height=${video.height}></video>
    <${Downloads} links=${[
      [t("downloadVideo"), film, `video-${video.id}.mp4`],
      [t("downloadPoster"), poster, `poster-${video.id}`],
    ]} />
    <${Facts} facts=${[
      [t("time"), clock(video.processing_time ?? 0)],
      [t("duration"), t("seconds", { n: video.duration })],
      [t("size"), `${video.width}×${video.height}`],
      [t("videoModel"), model(video.video_model)],
    ]} />`;
}
