"""Settings of CODE by names that say what is wrong with a picture, for the nodes and the commands."""

# settings for each picture, by `automatic.choose`
AUTO = "auto"
# many small updates of every picture, as in the paper
ALL = {"step_size": 2e-3, "updates": 60, "blocks": 4, "stop_at": 0.0}
# what differs from the defaults of `Settings`
PRESETS = {
    "balanced": {},
    "light": {**ALL, "depth": 0.15, "step_size": 3e-4, "updates": 20},
    "smooth": {"depth": 0.3, "eta": 0.7, "updates": 0},
    "detail": {**ALL, "depth": 0.3, "step_size": 1e-3, "updates": 30, "eta": 1.3, "levels": 2, "shallowest": 0.05},
    "noise": {**ALL, "updates": 30, "levels": 2, "shallowest": 0.05},
    "hazy": {**ALL, "updates": 30, "levels": 2, "shallowest": 0.05, "clip": False},
    "blocks": {**ALL, "depth": 0.5, "eta": 0.7},
    "strokes": {**ALL, "depth": 0.5, "step_size": 5e-3},
    "masked": {**ALL, "depth": 0.8, "eta": 0.4},
    "faded": {**ALL, "step_size": 1e-3, "clip": False, "guidance": 4.0},
    "faithful": {"depth": 0.3},
    "bold": {**ALL, "step_size": 5e-3},
}
