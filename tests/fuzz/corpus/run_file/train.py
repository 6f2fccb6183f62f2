n_layer = 2
n_head = 2
n_embd = 64
block_size = 64
batch_size = 4
dropout = 0.0
always_save_checkpoint = False
