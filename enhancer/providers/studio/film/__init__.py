"""
The studio's film maker: a picture and a script become a short advertisement.

storyboard: what is shown when. gaze: where the product is. camera: how the view moves. typesetting and captions: what
is read. card: how it ends. planes: the pixels. cutting: all of it, frame by frame. encoder: the file.
"""
