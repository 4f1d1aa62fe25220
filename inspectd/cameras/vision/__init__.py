"""What GigE Vision and USB3 Vision cameras need: Aravis, their features, their clock, and when they take a picture.

Owns: nothing; a grabber holds the camera.
Threads: the child's main thread.
Never: Aravis before `library.load` is called: most PCs have none.
"""
