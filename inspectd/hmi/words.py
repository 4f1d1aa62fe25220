"""The pages' two languages: English as it is written in the code, and its Chinese beside it.

What the daemon says in sentences of its own (details, advice) stays English; its reasons, states and alarms are words
of the protocol, and are translated. A test holds the table to the templates and scripts, and to the protocol.
"""

from __future__ import annotations

from starlette.requests import Request

COOKIE = "language"
LANGUAGES = {"en": "English", "zh": "中文"}

CHINESE = {
    # verdicts, states, reasons: the protocol's words
    "ok": "合格",
    "ng": "不合格",
    "fault": "未检",
    "starting": "启动中",
    "running": "运行",
    "lost": "断开",
    "frozen": "画面冻结",
    "stopped": "已停止",
    "bypass": "旁路",
    "camera_lost": "相机断开",
    "camera_frozen": "画面冻结",
    "deadline": "超时",
    "overload": "过载",
    "identity": "相机不符",
    "picture": "图像异常",
    "no_model": "无模型",
    "no_threshold": "无阈值",
    "engine": "引擎故障",
    "shutdown": "停机",
    # the wall
    "All cameras": "所有相机",
    "Gallery": "图库",
    "Log in": "登录",
    "Log out": "退出",
    "Name": "用户名",
    "Password": "密码",
    "Who has not logged in": "未登录",
    "viewer": "查看者",
    "operator": "操作员",
    "engineer": "工程师",
    "No camera was heard of yet.": "尚未收到任何相机的消息。",
    "not inspecting": "未在检测",
    "stale": "数据过期",
    "waiting": "等待中",
    "score": "分数",
    "threshold": "阈值",
    "pictures/s": "帧/秒",
    "p99": "p99",
    "passed": "合格率",
    "this shift": "本班",
    "not counted": "未计数",
    "missed here": "本页未收到",
    "since": "自",
    "The daemon is gone. Stop the line.": "检测程序已失联。请停线。",
    "No connection to the server of this page. What is shown is old.": "与页面服务器的连接中断。所示内容已过期。",
    "Waiting for the daemon …": "正在等待检测程序……",
    "This browser has no WebSocket, without which nothing here would be true. Use a newer one.": (
        "此浏览器不支持 WebSocket，无法显示实时数据。请使用较新的浏览器。"
    ),
    "This page needs JavaScript: without it nothing here would be true.": "此页面需要 JavaScript。",
    "Map": "热图",
    "no map": "无热图",
    "no picture": "无图像",
    "Last parts": "最近的零件",
    "Scores": "分数",
    "Count": "计数",
    "The chart's library is not installed; the numbers are above.": "图表库未安装；数值见上。",
    "Start a new count": "重新计数",
    # the gallery
    "Camera": "相机",
    "Verdict": "判定",
    "Reason": "原因",
    "all": "全部",
    "ng, fault": "不合格和未检",
    "marked": "已标记",
    "From": "从",
    "To": "到",
    "Show": "显示",
    "Nothing was found.": "没有找到。",
    "Looked back to": "已查至",
    "Older": "更早",
    "Before and after it": "前后零件",
    "share of good parts that score higher": "得分更高的良品比例",
    "regions": "缺陷区域",
    "picture number": "图像编号",
    "epoch": "运行编号",
    # calibration
    "Calibrate": "标定",
    "Every part that passes now must be a good one. The inspection goes on meanwhile.": (
        "此时经过的每个零件都必须是良品。检测同时继续进行。"
    ),
    "Good parts": "良品数量",
    "Begin": "开始",
    "Stop": "停止",
    "Go on": "继续",
    "Report": "报告",
    "although it passes parts that were marked as bad": "即使它放行已标记为不良的零件",
    "Install, and judge by it": "安装并启用",
    "Back to the model before": "恢复上一个模型",
    # commands
    "Commands": "操作",
    "Trigger": "触发",
    "Part": "零件号",
    "Bypass": "旁路",
    "End the bypass": "结束旁路",
    "Minutes": "分钟",
    "Who": "姓名",
    "Why": "原因",
    "Threshold": "阈值",
    "Try": "试算",
    "Set": "设定",
    "Recipe": "配方",
    "Model": "模型",
    "Folder of the model": "模型文件夹",
    "Switch": "切换",
    "Back to the configuration": "恢复配置",
    "was good": "实为合格",
    "was missed": "漏检",
    "Done.": "完成。",
    "Nothing was done: the server of this page does not answer.": "未执行：页面服务器无响应。",
    "Another threshold is in force by now. Look at it, and try again.": "阈值已被他人更改。请查看后重试。",
    "of the last": "最近",
    "parts": "个零件",
    "would be rejected that were accepted": "个由合格变为不合格",
    "would be accepted that were rejected": "个由不合格变为合格",
    "Second model": "第二模型",
    "compared": "比较",
    "agreed": "一致",
    "wrong name or password": "用户名或密码错误",
    "Language": "语言",
}


class Sayer:
    """Says a sentence of the pages in one language."""

    def __init__(self, language: str) -> None:
        self._words = CHINESE if language == "zh" else {}

    def __call__(self, text: str) -> str:
        """Return the sentence; English where there is no other."""
        return self._words.get(text, text)


def for_pages(language: str) -> dict[str, str]:
    """Return what the scripts say."""
    return CHINESE if language == "zh" else {}


def choose(request: Request, fixed: str | None) -> str:
    """Return a browser's language: what was chosen, else what is set for all, else what the browser asks for."""
    for asked in (request.query_params.get("language"), request.cookies.get(COOKIE), fixed):
        if asked in LANGUAGES:
            return asked
    for part in request.headers.get("accept-language", "").split(","):
        language = part.strip()[:2].lower()
        if language in LANGUAGES:
            return language
    return "en"
