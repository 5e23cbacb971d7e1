"""What the screens offer, without a pixel: menus, text entry, scenes, and what a device wants of them."""
