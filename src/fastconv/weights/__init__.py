SUFFIXES=(".pth",)
def load_state_dict(p): pass
