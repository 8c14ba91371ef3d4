// The workbench: from a photo (workflowStage image) to a video (workflowStage video).

import { useEffect, useState } from "react";
import { html } from "./html.js";
import { Enhancement } from "./Enhancement.js";
import { draft, PhotoForm } from "./PhotoForm.js";
import { Video } from "./Video.js";
import { VideoForm } from "./VideoForm.js";
import { sentence, t } from "../i18n/language.js";
import { useEnhancementStream } from "../lib/hooks/useEnhancementStream.js";
import { useVideoStream } from "../lib/hooks/useVideoStream.js";
import { isFinal } from "../lib/hooks/stream.js";
import { go } from "../state/route.js";
import { changed } from "../state/tabs.js";
import { KINDS, useTask } from "../state/tasks.js";

export function HeroSection({ token, route, onSignIn, say }) {
  const [order, setOrder] = useState(draft);
  const { task, problem, setTask } = useTask("enhancement", route.enhancement, token);
  const { task: video, problem: videoProblem, setTask: setVideo } = useTask("video", route.video, token);

  const stream = useEnhancementStream({
    ...followed(task, token),
    onComplete: (result) => {
      setTask({ ...task, ...result });
      setOrder(draft({ duration: order.duration, language: order.language }));
      say(t("done"));
      changed();
    },
    onError: (_, event) => ended(event),
  });
  const videoStream = useVideoStream({
    ...followed(video, token),
    onComplete: () => {
      say(t("videoDone"));
      changed();
    },
    onError: (_, event) => ended(event),
  });
  const ended = (event) => {
    // how a task ended stands where its result would; that it is out of reach does not
    if (event.code && event.code !== "unauthenticated") say(sentence(event));
    changed();
  };
  const retry = (kind, of, set) =>
    KINDS[kind].retry(of.id).then(
      (again) => {
        set(again);
        changed();
      },
      (failure) => say(sentence(failure)),
    );
  const accepted = (made) => {
    setTask(made);
    setOrder(draft(order)); // sent again, it is another order
    go({ enhancement: made.id });
    changed();
    focusOn("stage");
  };
  const videoAccepted = (made) => {
    setVideo(made);
    go({ enhancement: made.enhancement_id, video: made.id });
    changed();
    focusOn("video-stage");
  };

  const running = Boolean(task && !isFinal(task));
  const title = running ? `${stream.progress}% · ` : video && !isFinal(video) ? `${videoStream.step}/9 · ` : "";
  useEffect(() => {
    document.title = `${title}Enhancer`;
  }, [title]);

  const workflowStage = task?.status === "completed" ? "video" : "image";
  const wanted = Boolean(token && (route.enhancement || route.video));
  const trouble = problem ?? videoProblem;
  const form =
    workflowStage === "video"
      ? html`<${VideoForm} key=${task.id} task=${task} again=${video?.status === "completed"} busy=${video && !isFinal(video)}
          onAccepted=${videoAccepted} onNew=${() => go({})} say=${say} />`
      : task
        ? html`<${Order} task=${task} />`
        : (!wanted || trouble || video) && html`<${PhotoForm} value=${order} signedIn=${Boolean(token)} onChange=${setOrder}
            onSignIn=${onSignIn} onAccepted=${accepted} />`;
  // what is made comes first, to readers and on narrow screens; what is to be filled in, when there is nothing yet
  const columns = [
    html`<div key="side" class="column">${form}</div>`,
    html`<div key="stage" class="column stage">
      ${video && html`<${Video} video=${video} stream=${videoStream} say=${say} onRetry=${() => retry("video", video, setVideo)} />`}
      ${task && html`<${Enhancement} task=${task} stream=${stream} say=${say} onChange=${() => go({})}
        onRetry=${() => retry("enhancement", task, setTask)} />`}
      ${!wanted && html`<${Promise_} />`}
      ${wanted && !task && !video && html`<section class="card nothing">
        ${trouble ? html`<p role="alert">${sentence(trouble)}</p>` : t("loading")}
      </section>`}
    </div>`,
  ];
  return html`<div class="bench">${task || video ? columns.reverse() : columns}</div>`;
}

// What the hook shall follow: a task that has not ended, for whoever is signed in.
const followed = (task, token) => (task && token && !isFinal(task) ? { taskId: task.id, streamUrl: task.stream_url } : { taskId: null });

// Once it is drawn.
const focusOn = (id) => setTimeout(() => document.getElementById(id)?.focus());

// What was ordered, while it is made.
const Order = ({ task }) => html`<section class="card" aria-labelledby="order">
  <h2 id="order">${t("order")}</h2>
  <p class="prose">${task.user_description || t("untitled")}</p>
  <p class="about">${t("seconds", { n: task.duration })} · ${task.language}</p>
  <button class="quiet" onClick=${() => go({})}>${t("newPhoto")}</button>
</section>`;

/** Before there is anything: what will come. */
const Promise_ = () => html`<ol class="promise">
  ${[1, 2, 3].map((n) => html`<li key=${n}><i class=${`art${n}`}></i><b>${t(`empty${n}`)}</b><span>${t(`empty${n}Text`)}</span></li>`)}
</ol>`;
