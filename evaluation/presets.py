"""Settings of CODE by names that say what is wrong with a picture, for the nodes and the commands."""

# settings for each picture, by `automatic.choose`
AUTO = "auto"
# updates of every picture, whatever the model sees in it, as in the paper
ALL = {"step_size": 6e-3, "updates": 20, "blocks": 4, "stop_at": 0.0}
# a few of them at a clean level too
TWO = {**ALL, "updates": 10, "blocks": 2, "levels": 2, "shallowest": 0.05}
# what differs from the defaults of `Settings`
PRESETS = {
    "balanced": {},
    "light": {**ALL, "depth": 0.15, "steps": 10, "step_size": 8e-4, "updates": 8, "blocks": 2},
    "smooth": {"depth": 0.3, "eta": 0.7, "updates": 0},
    "detail": {**TWO, "depth": 0.3, "step_size": 3e-3, "eta": 1.3},
    "noise": TWO,
    "hazy": {**TWO, "clip": False},
    "blocks": {**ALL, "depth": 0.5, "eta": 0.7},
    "strokes": {**ALL, "depth": 0.5, "step_size": 1.5e-2},
    "masked": {**ALL, "depth": 0.8, "eta": 0.4},
    "faded": {**ALL, "step_size": 3e-3, "clip": False, "guidance": 4.0},
    "faithful": {"depth": 0.3},
    "bold": {**ALL, "step_size": 1.5e-2},
}
