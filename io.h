/* A buffered connection with a deadline: see io.c. */
#ifndef IO_H
#define IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes of the input buffer. After the login, the session or the relay gets the
 * content of this buffer in one message. Further input stays in the socket.
 */
#define IO_IN 1024
/*
 * Bytes of the output buffer. It is large, so that an answer of 64 KiB can be
 * sent with one system call.
 */
#define IO_OUT 131072

enum io_error {
	IO_OK,
	IO_CLOSED,        /* the peer has closed or reset the connection */
	IO_TIMEOUT,       /* the peer has not sent its input in time */
	IO_WRITE_TIMEOUT, /* the peer has not taken the output in time */
	IO_TAKEN_OVER,    /* a takeover request came while the peer was idle */
	IO_FAILED,        /* any other error */
};

struct io {
	int fd;
	/*
	 * The time by which every read and write must end, in ms of
	 * CLOCK_MONOTONIC. If the deadline is 0, the next two fields apply in
	 * its place.
	 */
	int64_t deadline;
	int64_t idle;          /* timeout for one line of input, in ms */
	int64_t write_timeout; /* timeout for one buffer of output, in ms */
	/*
	 * Becomes readable when another login asks this connection to end. If
	 * it is -1, no login can ask.
	 */
	int takeover;
	/*
	 * A takeover request ends the connection if no byte was transferred for
	 * this many ms.
	 */
	int64_t takeover_idle;
	/* see io_look_for_takeover; NULL: nothing to look for */
	int (*look)(void *self);
	void *look_self;
	/*
	 * when the peer's idle time began in which the next look is due, and
	 * when that is, in ms of CLOCK_MONOTONIC
	 */
	int64_t look_begin, look_due;
	bool has_looked; /* in this idle time */
	/* io_exact reads no more from the socket than its caller asks for */
	bool no_read_ahead;
	/*
	 * The first error. It stays set, and after it nothing is read, returned
	 * or written any more.
	 */
	enum io_error error;
	/* Bytes of the line that io_line read last, including the line end. */
	uint64_t line_size;
	size_t in_at, in_end, out_end;
	char in[IO_IN];
	char out[IO_OUT];
};

/* What io_line returns besides a length. */
#define IO_LINE_ERROR (-1) /* io->error is set */
/* Too long; the whole line has been read, and line contains its beginning. */
#define IO_LINE_LONG (-2)

/*
 * Initializes *io for the connected socket fd. Every read and write must end by
 * the deadline, in ms of CLOCK_MONOTONIC.
 */
void io_init(struct io *io, int fd, int64_t deadline);

/*
 * Replaces the deadline by timeouts: idle ms for each line of input,
 * write_timeout ms for each buffer of output.
 */
void io_limits(struct io *io, int64_t idle, int64_t write_timeout);

/*
 * From now on, ends the connection if the descriptor `takeover` becomes
 * readable and the peer has been idle for at least `idle` ms. Does not close
 * the descriptor.
 */
void io_allow_takeover(struct io *io, int takeover, int64_t idle);

/*
 * From now on, also calls look(self) every second while the peer is idle, after
 * the idle time of io_allow_takeover. look returns 1 if another login has asked
 * for the connection since the call before, 0 if not, and -1 if none can ask;
 * then it is not called again. The connection ends at a 1, unless this is the
 * first call in this idle time: the request may be old.
 */
void io_look_for_takeover(struct io *io, int (*look)(void *self), void *self);

/* Continues with another socket. Discards unread input of the old socket. */
void io_switch(struct io *io, int fd);

/*
 * Replaces the buffered input by n <= IO_IN bytes, which another process has
 * read. The input of the socket follows after these bytes.
 */
void io_prime(struct io *io, const void *data, size_t n);

/*
 * Returns the number of bytes that were read from the socket but not used.
 * Stores their address in *data; the address is valid until the next read.
 */
size_t io_unread(const struct io *io, const char **data);

/*
 * Reads a line that ends in LF or CRLF. Stores it in line[size], with a NUL in
 * place of the line end. Returns the length of the line; a NUL in the line
 * counts like any byte. Returns IO_LINE_LONG if the line, including its end,
 * has more than size bytes. Returns IO_LINE_ERROR after an error. Sends waiting
 * output first, unless a whole line is buffered.
 */
int io_line(struct io *io, char *line, size_t size);

/* Reads exactly n bytes. Returns 0, or -1 with io->error set. */
int io_exact(struct io *io, void *data, size_t n);

/*
 * Appends n bytes to the output buffer, and sends the buffer whenever it is
 * full. Sets io->error if the sending fails.
 */
void io_write(struct io *io, const void *data, size_t n);

/* Appends a formatted text of less than 512 bytes, as io_write does. */
void io_printf(struct io *io, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Returns the address of free space for at least need bytes of output (need <=
 * IO_OUT), and stores the size of this space in *room. The caller writes to
 * this space, then calls io_advance.
 */
char *io_reserve(struct io *io, size_t need, size_t *room);

/*
 * Appends the n bytes that the caller has written to the space from io_reserve.
 */
void io_advance(struct io *io, size_t n);

/* Sends waiting output. Returns 0, or -1 with io->error set. */
int io_flush(struct io *io);

/*
 * Sends waiting output, then waits until the peer's kernel has acknowledged all
 * output. On a socket pair, waits until the other end has read all output. The
 * write timeout restarts each time fewer bytes are outstanding. A peer that has
 * ended only its own direction still counts as connected. Returns 0, or -1 with
 * io->error set. Also returns 0 if the kernel cannot count the outstanding
 * bytes.
 */
int io_await_acknowledged(struct io *io);

/*
 * If io->error is IO_TIMEOUT, sends n bytes nevertheless and ends our direction
 * of the connection. Does nothing for any other value. Does not change
 * io->error.
 */
void io_answer_timeout(struct io *io, const void *data, size_t n);

/*
 * Sends waiting output and ends our direction of the connection. Then reads and
 * discards what the peer still sends, for at most two seconds. If input stayed
 * unread, close would reset the connection, and the answer could be lost. Does
 * nothing if io->error is set.
 */
void io_linger(struct io *io);

#endif
