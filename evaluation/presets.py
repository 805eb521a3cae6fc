"""Settings of CODE by names that say what is wrong with a picture, for the nodes and the commands."""

# settings for each picture, by `automatic.choose`
AUTO = "auto"
# what differs from the defaults of `Settings`
PRESETS = {
    "balanced": {},
    "light": {"depth": 0.15, "steps": 12, "step_size": 3e-4, "updates": 20},
    "smooth": {"depth": 0.3, "eta": 0.7, "updates": 0},
    "detail": {"depth": 0.3, "step_size": 1e-3, "updates": 30, "eta": 1.3, "levels": 2, "shallowest": 0.05},
    "noise": {"updates": 30, "levels": 2, "shallowest": 0.05},
    "hazy": {"updates": 30, "levels": 2, "shallowest": 0.05, "clip": False},
    "blocks": {"depth": 0.5, "eta": 0.7},
    "strokes": {"depth": 0.5, "step_size": 5e-3},
    "masked": {"depth": 0.8, "eta": 0.4},
    "faded": {"step_size": 1e-3, "clip": False, "guidance": 4.0},
    "faithful": {"depth": 0.3, "step_size": 1e-3},
    "bold": {"step_size": 5e-3},
}
