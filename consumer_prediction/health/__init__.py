"""Whether a predictor may go on: guards, the watchdog, readiness, and reports of rejections."""
