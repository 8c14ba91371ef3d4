"""
What the service says about a task, in the languages that it has.

The texts of the points are part of the interface: other programs show them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from enhancer.domain.tasks import Kind

FALLBACK = "en"

POINTS: Mapping[str, Mapping[Kind, Mapping[int, str]]] = {
    "en": {
        Kind.ENHANCEMENT: {
            5: "🚀 Enhancement task started",
            10: "📖 Reading original image...",
            15: "✅ Image loaded ({original_mb:.2f}MB)",
            20: "📐 Detecting image orientation...",
            25: "✅ Orientation: {orientation} ({video_size})",
            30: "🎨 Enhancing image with {image_model}...",
            50: "✅ Image enhanced ({model_size})",
            55: "📐 Resizing for video requirements...",
            60: "✅ Image resized for video ({enhanced_size})",
            65: "💾 Saving enhanced image...",
            70: "✅ Enhanced image saved",
            75: "🤖 Generating advertising script with {script_model}...",
            90: "✅ Script generated ({script_length} characters)",
            95: "💾 Saving results...",
            100: "🎉 Enhancement completed successfully!",
        },
        Kind.VIDEO: {
            0: "🚀 Video task started",
            1: "📖 Reference image loaded ({reference_mb:.2f}MB)",
            2: "📝 Prompt composed ({prompt_length} characters)",
            3: "📐 Reference frame fitted ({size})",
            4: "📤 Submitted to {video_model}",
            5: "🎬 Rendering video...{percent}",
            6: "✅ Video rendered",
            7: "🔎 Video downloaded and checked ({size}, {seconds:.1f} s, {video_mb:.2f}MB)",
            8: "💾 Video saved with thumbnail",
            9: "🎉 Video completed successfully!",
        },
    },
    "zh": {
        Kind.ENHANCEMENT: {
            5: "🚀 图片增强任务已开始",
            10: "📖 正在读取原始图片…",
            15: "✅ 图片已加载（{original_mb:.2f}MB）",
            20: "📐 正在检测图片方向…",
            25: "✅ 方向：{orientation}（{video_size}）",
            30: "🎨 正在使用 {image_model} 增强图片…",
            50: "✅ 图片已增强（{model_size}）",
            55: "📐 正在调整为视频尺寸…",
            60: "✅ 图片已调整为视频尺寸（{enhanced_size}）",
            65: "💾 正在保存增强后的图片…",
            70: "✅ 增强后的图片已保存",
            75: "🤖 正在使用 {script_model} 生成广告脚本…",
            90: "✅ 脚本已生成（{script_length} 个字符）",
            95: "💾 正在保存结果…",
            100: "🎉 图片增强已成功完成！",
        },
        Kind.VIDEO: {
            0: "🚀 视频任务已开始",
            1: "📖 参考图片已加载（{reference_mb:.2f}MB）",
            2: "📝 提示词已生成（{prompt_length} 个字符）",
            3: "📐 参考帧已调整（{size}）",
            4: "📤 已提交至 {video_model}",
            5: "🎬 正在渲染视频…{percent}",
            6: "✅ 视频渲染完成",
            7: "🔎 视频已下载并检查（{size}，{seconds:.1f} 秒，{video_mb:.2f}MB）",
            8: "💾 视频和缩略图已保存",
            9: "🎉 视频已成功完成！",
        },
    },
}

PHRASES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "retrying": "⏳ Retrying ({retry}/{retries}) in {seconds:.0f} s: {reason}",
        "waiting": "⏳ Waiting {seconds:.0f} s: {reason}",
        "cancelled": "🛑 Cancelled",
        "restarted": "🔁 Started again",
        "landscape": "landscape",
        "portrait": "portrait",
        "square": "square",
        "video_prompt": "A short advertisement of the product in the picture: the camera moves slowly towards it.",
    },
    "zh": {
        "retrying": "⏳ {seconds:.0f} 秒后重试（{retry}/{retries}）：{reason}",
        "waiting": "⏳ 等待 {seconds:.0f} 秒：{reason}",
        "cancelled": "🛑 已取消",
        "restarted": "🔁 已重新开始",
        "landscape": "横向",
        "portrait": "纵向",
        "square": "方形",
        "video_prompt": "图中产品的一段广告短片：镜头缓缓推近产品。",
    },
}

# English speaks the sentences of the errors themselves, which say more
REASONS: Mapping[str, Mapping[str, str]] = {
    "zh": {
        "provider_refused": "模型服务拒绝了该请求。",
        "provider_rejected_image": "模型服务的安全系统拒绝了该图片或描述。",
        "provider_unavailable": "模型服务暂时无法访问。",
        "provider_rate_limited": "模型服务限制了请求频率。",
        "provider_bad_answer": "模型服务返回的结果无法使用。",
        "timeout": "任务超过了时间限制。",
        "outcome_unknown": "付费调用中断，无法得知是否已计费。",
        "storage_unavailable": "存储暂时无法访问。",
        "call_in_progress": "之前的调用可能仍在进行，正在等待，以免重复付费。",
        "internal": "发生内部错误。",
    },
}


def language(tag: str) -> str:
    """The language that is spoken for a BCP 47 tag: its primary one where we have it, else English."""
    primary = tag.replace("_", "-").split("-")[0].lower()
    return primary if primary in POINTS else FALLBACK


def point(kind: Kind, at: int, tag: str, words: Mapping[str, object]) -> str:
    """The message of a point on the kind's scale."""
    return POINTS[language(tag)][kind][at].format_map(words)


def phrase(name: str, tag: str, **words: object) -> str:
    """A message that belongs to no point, or a word."""
    return PHRASES[language(tag)][name].format_map(words)


def reason(code: str, sentence: str, tag: str) -> str:
    """Why something failed, in the task's language."""
    return REASONS.get(language(tag), {}).get(code, sentence)
