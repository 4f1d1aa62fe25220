"""The pages' two languages: English as it is written in the code, and its Chinese beside it.

Reasons, states and alarms are the protocol's words; what an operator does about an alarm comes from `inspectd.alarms`.
Only the details, which the daemon puts together itself, stay English. A test holds the tables to templates, scripts,
protocol and alarms.
"""

from __future__ import annotations

from starlette.requests import Request

COOKIE = "language"
LANGUAGES = {"en": "English", "zh": "中文"}

ENGLISH = {
    "camera_lost": "camera lost",
    "camera_frozen": "picture frozen",
    "no_model": "no model",
    "no_threshold": "no threshold",
    "challenge_failed": "known part not told",
    "challenge_due": "known part is due",
    "challenge_soon": "known part due soon",
    "parts_unseen": "parts not noticed",
    "near_deadline": "hardly in time",
    "picture_drift": "the picture drifts",
    "score_drift": "the scores drift",
    "driver_leaks": "driver leaks",
    "clients_refused": "clients refused",
}
"""Words of the protocol that are not English as they stand."""

OF_ALARMS = {
    "challenge_failed": "未识别已知样件",
    "challenge_due": "应检验已知样件",
    "challenge_soon": "即将需检验已知样件",
    "parts_unseen": "未发现零件",
    "unsteady": "相机不稳定",
    "near_deadline": "接近超时",
    "picture_drift": "图像漂移",
    "score_drift": "分数漂移",
    "driver_leaks": "驱动泄漏内存",
    "stalled": "程序停滞",
    "journal": "无法写日志",
    "archive": "无法存档",
    "clients_refused": "客户端被拒绝",
    "down": "无应答",
    "restarting": "反复重启",
    "See that it has power and its cable sits, then look at its address; it is opened again by itself.": (
        "检查电源和电缆，再检查地址；相机会自动重新打开。"
    ),
    "Switch its power off and on.": "将相机断电后重新上电。",
    "Nothing, if it is meant; else have the bypass ended (command bypass, seconds 0).": (
        "若为有意旁路则无需处理；否则请结束旁路。"
    ),
    "Show the part again. If it is not told either, its detail in the log says whether the picture has changed or the "
    "model: look at camera and lamp, or calibrate again.": (
        "再次放置样件。若仍未识别，日志会说明是图像还是模型改变了：检查相机和光源，或重新标定。"
    ),
    "Show it a known part (`inspectd challenge`).": "放置已知样件（`inspectd challenge`）。",
    "Show it a known part (`inspectd challenge`) when it suits the line.": (
        "在产线方便时放置已知样件（`inspectd challenge`）。"
    ),
    "Install a model (`inspectd calibrate`, `inspectd install`), or return to the last one (`inspectd install "
    "--rollback`).": "安装模型，或恢复上一个模型。",
    "Calibrate it (`inspectd calibrate`), or set a threshold (command threshold).": "标定，或设定阈值。",
    "Start the daemon anew; if that does not help, choose another device or precision, and have the machine's memory "
    "tested.": "重启检测程序；若无效，请更换计算设备或精度，并检测内存。",
    "See whether the camera was moved, exchanged or set anew; put it back as it was, or calibrate again.": (
        "检查相机是否被移动、更换或重新设置；恢复原状或重新标定。"
    ),
    "Look at lamp, lens and cable before you touch the threshold.": "先检查光源、镜头和电缆，不要先改阈值。",
    "See what else this machine computes; then lower the rate of parts or the model's input size, or use a faster "
    "device (`inspectd bench`).": "检查本机其他负载；降低节拍或模型输入尺寸，或使用更快的设备。",
    "See what else this machine computes; then raise deadline_ms, lower the frame rate or the model's input size, or "
    "use a faster device (`inspectd bench`).": (
        "检查本机其他负载；增大 deadline_ms、降低帧率或模型输入尺寸，或使用更快的设备。"
    ),
    "See what else this machine computes; then raise deadline_ms, or use a faster device (`inspectd bench`).": (
        "检查本机其他负载；增大 deadline_ms，或使用更快的设备。"
    ),
    "Do what its detail says: light, lens and place of the camera must be as at the calibration.": (
        "按详情处理：光源、镜头和相机位置须与标定时一致。"
    ),
    "Exchange its cable, then its port, then its power supply.": "依次更换电缆、接口和电源。",
    "Do what its detail says, before you touch the threshold.": "先按详情处理，不要先改阈值。",
    "See whether parts or tools have changed (where it is the picture, picture_drift says so); if the parts are good, "
    "calibrate again with some of them.": "检查零件或刀具是否改变；若零件是良品，请用它们重新标定。",
    "Update the camera's driver or firmware.": "更新相机驱动或固件。",
    "Nothing.": "无需处理。",
    "Keep its log (`journalctl -u inspectd`): it says where each thread stood.": (
        "保存日志（`journalctl -u inspectd`）。"
    ),
    "Make room on the disk, or exchange it.": "清理磁盘空间或更换磁盘。",
    "Find the address in the log; give that client its key (`inspectd keygen`), or have it stopped.": (
        "在日志中查找地址；为该客户端配置密钥，或停止它。"
    ),
    "Look at `systemctl status inspectd`, then at the machine and its network.": (
        "查看 `systemctl status inspectd`，再检查机器和网络。"
    ),
    "Look at `journalctl -u inspectd` for what ended it.": "查看 `journalctl -u inspectd` 中的退出原因。",
}

CHINESE = OF_ALARMS | {
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
    "This browser has no WebSocket, without which nothing here would be true. Use a newer one.": (
        "此浏览器不支持 WebSocket，无法显示实时数据。请使用较新的浏览器。"
    ),
    "This page needs JavaScript: without it nothing here would be true.": "此页面需要 JavaScript。",
    "Map": "热图",
    "no map": "无热图",
    "no picture": "无图像",
    "Last pictures": "最近的图像",
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
    "Another request is under way. Wait for its end.": "另一个请求正在执行，请稍候。",
    "No answer came. Whether it was done is not known: look at the page, or at the audit, before you do it again.": (
        "没有收到答复，不知是否已执行：重试前请查看页面或审计记录。"
    ),
    "Say for how many minutes.": "请填写分钟数。",
    "Say a threshold: a number.": "请填写阈值（数字）。",
    "This picture is damaged, or gone.": "图像已损坏或已删除。",
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
        self._words = for_pages(language)

    def __call__(self, text: str) -> str:
        """Return the sentence; English where there is no other."""
        return self._words.get(text, text)


def for_pages(language: str) -> dict[str, str]:
    """Return what the scripts say."""
    return CHINESE if language == "zh" else ENGLISH


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
