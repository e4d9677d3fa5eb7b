"""In which order an adaptive rating asks, and when it stops asking about a pair."""


class AdaptiveOrder:
    pass
