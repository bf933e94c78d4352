/* TRANSACTION and UPDATE, POP3's states after the login: see pop3-trans.c. */
#ifndef POP3_TRANS_H
#define POP3_TRANS_H

#include "io.h"
#include "maildrop.h"
#include "pop3.h"

/* The commands of TRANSACTION. */
extern const struct pop3_command pop3_trans_commands[];

/*
 * Answers PASS or AUTH with the number of messages and obeys the client's
 * commands. After QUIT removes the marked messages. Logs how the session ended.
 */
void pop3_serve(struct io *io, struct maildrop *drop);

#endif
